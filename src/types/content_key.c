/* content_key(): "video:<sha256>". Lock: the GIL. */
#include "types/content_key.h"

#include "py/digest.h"
#include "py/state.h"
#include "types/json_text.h"

static int
append_card(RedlaneBuffer *text, PyObject *card)
{
    if (unlikely(!PyUnicode_Check(card))) {
        PyErr_Format(PyExc_TypeError, "a card must be a str, not %.100s",
                     Py_TYPE(card)->tp_name);
        return -1;
    }
    return redlane_json_text_append(text, card);
}

/* Appends [black,[white…]]. `cards` is an exact list or tuple, so no user code runs. */
static int
append_cards(RedlaneBuffer *text, PyObject *black_card, PyObject *cards)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(cards);

    if (redlane_buffer_append_literal(text, "[") < 0) {
        goto memory;
    }
    if (append_card(text, black_card) < 0) {
        return -1;
    }
    if (redlane_buffer_append_literal(text, ",[") < 0) {
        goto memory;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (i && redlane_buffer_append_byte(text, ',') < 0) {
            goto memory;
        }
        if (append_card(text, PySequence_Fast_GET_ITEM(cards, i)) < 0) {
            return -1;
        }
    }
    if (redlane_buffer_append_literal(text, "]]") < 0) {
        goto memory;
    }
    return 0;
memory:
    (void)PyErr_NoMemory();
    return -1;
}

int
redlane_content_key_hex(RedlaneState *state, PyObject *black_card,
                        PyObject *white_cards, char hex[REDLANE_CONTENT_KEY_HEX])
{
    RedlaneBuffer *text;
    PyObject *cards = NULL;
    int result = -1;

    if (unlikely(PyUnicode_Check(white_cards) || PyBytes_Check(white_cards))) {
        PyErr_Format(PyExc_TypeError,
                     "white_cards must be a sequence of str, not a single %.100s",
                     Py_TYPE(white_cards)->tp_name);
        return -1;
    }
    cards = PySequence_Fast(white_cards, "white_cards must be a sequence of str");
    if (!cards) {
        return -1;
    }
    text = redlane_digest_scratch(state);
    if (text && append_cards(text, black_card, cards) == 0) {
        result = redlane_digest_hex(state, text->data, text->size, hex);
    }
    Py_DECREF(cards);
    return result;
}

PyDoc_STRVAR(
    content_key_doc,
    "content_key($module, prefix, black_card, white_cards, /)\n"
    "--\n\n"
    "The key of content made from one black card and its white cards.\n"
    "\n"
    "It is ``{prefix}:`` and the SHA-256, as 64 hex digits, of the UTF-8\n"
    "compact JSON array ``[black_card,[white_card,...]]`` as\n"
    "``json.dumps(..., ensure_ascii=False, separators=(\",\", \":\"))`` writes\n"
    "it, so that any language can compute it. The order of the cards\n"
    "matters.\n"
    "\n"
    "Args:\n"
    "    prefix: what the key begins with, for example ``\"video\"`` (str).\n"
    "    black_card: a str.\n"
    "    white_cards: a sequence of str.\n"
    "\n"
    "Returns:\n"
    "    str: for example ``\"video:a3f5e8…\"``.\n"
    "\n"
    "Raises:\n"
    "    TypeError: something is not a str.\n"
    "    UnicodeEncodeError: a lone surrogate, which has no UTF-8.");

static PyObject *
content_key(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    char hex[REDLANE_CONTENT_KEY_HEX];
    PyObject *key;
    Py_ssize_t length;

    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "content_key expected 3 arguments, got %zd",
                     nargs);
        return NULL;
    }
    if (!PyUnicode_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "prefix must be a str, not %.100s",
                     Py_TYPE(args[0])->tp_name);
        return NULL;
    }
    if (redlane_content_key_hex(redlane_state_of_module(module), args[1], args[2],
                                hex) < 0) {
        return NULL;
    }
    length = PyUnicode_GET_LENGTH(args[0]);
    if (unlikely(!PyUnicode_IS_ASCII(args[0]))) {
        return PyUnicode_FromFormat("%U:%.64s", args[0], hex);
    }
    key = PyUnicode_New(length + 1 + REDLANE_CONTENT_KEY_HEX, 127);
    if (key) {
        char *to = (char *)PyUnicode_1BYTE_DATA(key);

        memcpy(to, PyUnicode_1BYTE_DATA(args[0]), (size_t)length);
        to[length] = ':';
        memcpy(to + length + 1, hex, sizeof(hex));
    }
    return key;
}

int
redlane_content_key_setup(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"content_key", (PyCFunction)(void (*)(void))content_key, METH_FASTCALL,
         content_key_doc},
        {NULL, NULL, 0, NULL},
    };

    return PyModule_AddFunctions(module, methods);
}
