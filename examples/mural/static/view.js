// Zooms and moves the canvas inside its frame; tells a click from a drag.
"use strict";

const ZOOM = { least: 1, most: 40, step: 1.25 };
const DRAG_PX = 4; // a mouse that moves less while it is pressed has clicked

class View {
  // `clicked(x, y)` is called with a place of the canvas, in its own pixels; `changed`
  // whenever what is to be seen has moved.
  constructor(frame, canvas, { clicked, changed }) {
    Object.assign(this, { frame, canvas, clicked, changed, zoom: 1, left: 0, top: 0 });
    this.pointers = new Map(); // those that are down
    this.dragged = false;
    canvas.addEventListener("wheel", (event) => this.turn(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.forget(event));
    addEventListener("resize", () => this.show());
    this.show();
  }

  // Zooms by a factor; what is at that place of the frame stays there.
  zoomBy(factor, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    const zoom = Math.min(ZOOM.most, Math.max(ZOOM.least, this.zoom * factor));
    this.left = x - ((x - this.left) * zoom) / this.zoom;
    this.top = y - ((y - this.top) * zoom) / this.zoom;
    this.zoom = zoom;
    this.show();
  }

  // The place of the canvas below a point of the window, or null.
  placeAt(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((clientX - box.left) / box.width) * this.canvas.width);
    const y = Math.floor(((clientY - box.top) / box.height) * this.canvas.height);
    const inside = x >= 0 && y >= 0 && x < this.canvas.width && y < this.canvas.height;
    return inside ? [x, y] : null;
  }

  // Where a place of the canvas is in the frame: left, top and size, in CSS pixels.
  boxOf(x, y) {
    const size = (this.frame.clientWidth / this.canvas.width) * this.zoom;
    return [this.left + x * size, this.top + y * size, size];
  }

  turn(event) {
    event.preventDefault();
    const factor = event.deltaY < 0 ? ZOOM.step : 1 / ZOOM.step;
    this.zoomBy(factor, ...this.inFrame(event.clientX, event.clientY));
  }

  press(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    // A second finger ends what could have been a click.
    this.dragged = this.pointers.size > 0;
    this.pointers.set(event.pointerId, this.track(event));
  }

  move(event) {
    const from = this.pointers.get(event.pointerId);
    if (!from) return;
    this.dragged ||= Math.hypot(event.clientX - from.x, event.clientY - from.y) >= DRAG_PX;
    if (!this.dragged) return;
    const [before] = this.fingers();
    const apart = this.distance();
    Object.assign(from, { x: event.clientX, y: event.clientY });
    const [after] = this.fingers();
    this.left += after.x - before.x;
    this.top += after.y - before.y;
    const factor = apart ? this.distance() / apart : 1;
    this.frame.classList.add("dragging");
    this.zoomBy(factor, ...this.inFrame(after.x, after.y));
  }

  release(event) {
    const clicked = this.pointers.has(event.pointerId) && !this.dragged;
    this.forget(event);
    const place = clicked && this.placeAt(event.clientX, event.clientY);
    if (place) this.clicked(...place);
  }

  forget(event) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size === 0) this.frame.classList.remove("dragging");
  }

  track(event) {
    return { x: event.clientX, y: event.clientY };
  }

  // The middle of what is down, and each of them.
  fingers() {
    const all = [...this.pointers.values()];
    const middle = { x: 0, y: 0 };
    for (const { x, y } of all) {
      middle.x += x / all.length;
      middle.y += y / all.length;
    }
    return [middle, all];
  }

  distance() {
    const [, [one, other]] = this.fingers();
    return other ? Math.hypot(one.x - other.x, one.y - other.y) : 0;
  }

  inFrame(clientX, clientY) {
    const box = this.frame.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  show() {
    // No edge of the canvas comes inside of the frame.
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    this.left = Math.min(0, Math.max(width * (1 - this.zoom), this.left));
    this.top = Math.min(0, Math.max(height * (1 - this.zoom), this.top));
    this.canvas.style.transform =
      `translate(${this.left}px, ${this.top}px) scale(${this.zoom})`;
    this.changed();
  }
}
