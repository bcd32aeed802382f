// Zooms and moves the canvas inside its frame; tells a click from a drag.
"use strict";

const ZOOM = { least: 1, most: 32, step: 1.25 };
const DRAG_PX = 4; // a mouse that moves less while it is pressed has clicked

class View {
  // `clicked(x, y)` is called with a place of the canvas, in its own pixels.
  constructor(frame, canvas, clicked) {
    Object.assign(this, { frame, canvas, clicked, zoom: 1, left: 0, top: 0 });
    this.pressed = null;
    frame.addEventListener("wheel", (event) => this.turn(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.press(event));
    frame.addEventListener("pointermove", (event) => this.move(event));
    frame.addEventListener("pointerup", (event) => this.release(event));
    frame.addEventListener("pointercancel", () => (this.pressed = null));
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

  turn(event) {
    event.preventDefault();
    const box = this.frame.getBoundingClientRect();
    const factor = event.deltaY < 0 ? ZOOM.step : 1 / ZOOM.step;
    this.zoomBy(factor, event.clientX - box.left, event.clientY - box.top);
  }

  press(event) {
    if (event.button !== 0) return;
    this.frame.setPointerCapture(event.pointerId);
    const { clientX, clientY } = event;
    this.pressed = { clientX, clientY, left: this.left, top: this.top, dragged: false };
  }

  move(event) {
    const from = this.pressed;
    if (!from) return;
    const [x, y] = [event.clientX - from.clientX, event.clientY - from.clientY];
    from.dragged ||= Math.hypot(x, y) >= DRAG_PX;
    if (!from.dragged) return;
    this.left = from.left + x;
    this.top = from.top + y;
    this.show();
  }

  release(event) {
    const from = this.pressed;
    this.pressed = null;
    if (!from || from.dragged) return;
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.canvas.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.canvas.height);
    if (x >= 0 && y >= 0 && x < this.canvas.width && y < this.canvas.height) this.clicked(x, y);
  }

  show() {
    // No edge of the canvas comes inside of the frame.
    const [width, height] = [this.frame.clientWidth, this.frame.clientHeight];
    this.left = Math.min(0, Math.max(width * (1 - this.zoom), this.left));
    this.top = Math.min(0, Math.max(height * (1 - this.zoom), this.top));
    this.canvas.style.transform =
      `translate(${this.left}px, ${this.top}px) scale(${this.zoom})`;
  }
}
