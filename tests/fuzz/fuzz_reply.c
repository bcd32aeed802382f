/* Streams of replies in an embedded interpreter: hiredis' parser, our reader and the
 * callbacks that build Python objects and plain trees.
 *
 * Input: options, two sizes of pieces, and the stream. It is read whole and in pieces,
 * into objects and into plain trees, and all of them must tell the same: the same
 * replies, and the same end (complete, bytes missing, refused). A plain tree goes
 * through the nodes of core/reply.c as well. What was made must be gone afterwards:
 * Python's blocks are counted, plain trees are watched by LeakSanitizer. */
#include <string.h>

#include "core/reply.h"
#include "fuzz.h"
#include "py/convert.h"
#include "py/errors.h"
#include "py/state.h"
#include "wire/reader.h"
#include "wire/reader_bulk.h"
#include "wire/reply_object.h"
#include "wire/reply_plain.h"

#include "hiredis/read.h"

#define HEAD 3 /* bytes before the stream */
#define ELEMENTS 64
#define REPEATS 200 /* more than any of Python's free lists holds of one kind */

int LLVMFuzzerInitialize(int *argc, char ***argv);

typedef struct {
    const char *stream;
    size_t size;
    size_t pieces[2]; /* sizes, taken in turn */
    size_t max_reply;
    bool decode;
    bool keep_nested;
    bool trim;
    bool sinks; /* large bulk strings go straight into their objects */
} Input;

typedef enum { OBJECTS, PLAIN } Builder;

static RedlaneState *state;
static long live; /* Python's memory blocks */

/* --- the interpreter ------------------------------------------------------------- */

static struct PyModuleDef_Slot slots[] = {{Py_mod_exec, redlane_errors_setup},
                                          {0, NULL}};

struct PyModuleDef redlane_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "redlane_fuzz",
    .m_size = sizeof(RedlaneState),
    .m_slots = slots,
};

static PyMODINIT_FUNC
make_module(void)
{
    return PyModuleDef_Init(&redlane_module_def);
}

static void *
count_malloc(void *context, size_t size)
{
    (void)context;
    live++;
    return malloc(size ? size : 1);
}

static void *
count_calloc(void *context, size_t count, size_t size)
{
    (void)context;
    live++;
    return calloc(count ? count : 1, size ? size : 1);
}

static void *
count_realloc(void *context, void *block, size_t size)
{
    (void)context;
    live += !block;
    return realloc(block, size ? size : 1);
}

static void
count_free(void *context, void *block)
{
    (void)context;
    live -= !!block;
    free(block);
}

static void
count_blocks(void)
{
    PyMemAllocatorEx counting = {NULL, count_malloc, count_calloc, count_realloc,
                                 count_free};

    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &counting);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &counting);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &counting);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    PyPreConfig before;
    PyConfig config;
    PyObject *module;

    (void)argc;
    (void)argv;
    PyPreConfig_InitIsolatedConfig(&before);
    before.allocator = PYMEM_ALLOCATOR_MALLOC;
    require(!PyStatus_Exception(Py_PreInitialize(&before)), "Python is prepared");
    require(PyImport_AppendInittab("redlane_fuzz", make_module) == 0, "a module");
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.install_signal_handlers = 0;
    require(!PyStatus_Exception(
                PyConfig_SetBytesString(&config, &config.home, REDLANE_PYTHON_HOME)),
            "Python's home");
    require(!PyStatus_Exception(Py_InitializeFromConfig(&config)), "Python starts");
    PyConfig_Clear(&config);
    module = PyImport_ImportModule("redlane_fuzz");
    require(module != NULL, "the module is imported");
    state = redlane_state_of_module(module);
    PyGC_Disable();
    count_blocks();
    return 0;
}

/* --- what was read, as text that can be compared ---------------------------------- */

static void
tell(RedlaneBuffer *told, char tag, const char *text, size_t size)
{
    char head[32];
    int length = snprintf(head, sizeof(head), "%c%zu:", tag, size);

    require(redlane_buffer_append(told, head, (size_t)length) == 0 &&
                redlane_buffer_append(told, text, size) == 0,
            "memory");
}

static void
tell_number(RedlaneBuffer *told, char tag, long long number)
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%lld", number);

    tell(told, tag, digits, (size_t)length);
}

/* Two errors are alike when they are errors: only objects have a class. */
static void
tell_object(RedlaneBuffer *told, PyObject *object)
{
    if (object == Py_None) {
        tell(told, '_', "", 0);
    }
    else if (PyBytes_CheckExact(object)) {
        tell(told, '$', PyBytes_AS_STRING(object), (size_t)PyBytes_GET_SIZE(object));
    }
    else if (PyUnicode_CheckExact(object)) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(object, &size);

        require(text != NULL, "what was decoded can be encoded");
        tell(told, '$', text, (size_t)size);
    }
    else if (PyLong_CheckExact(object)) {
        tell_number(told, ':', PyLong_AsLongLong(object));
    }
    else if (PyList_CheckExact(object)) {
        tell_number(told, '*', PyList_GET_SIZE(object));
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); i++) {
            tell_object(told, PyList_GET_ITEM(object, i));
        }
    }
    else {
        require(PyObject_TypeCheck(object, (PyTypeObject *)state->ReplyError) ||
                    Py_TYPE(object) == (PyTypeObject *)PyExc_UnicodeDecodeError,
                "anything else is an exception of ours");
        require(Py_REFCNT(object) >= 1, "and alive");
        tell(told, '-', "", 0);
    }
    require(!PyErr_Occurred(), "no exception is left set");
}

static void
tell_plain(RedlaneBuffer *told, const RedlanePlainReply *reply)
{
    switch (reply->kind) {
    case REDLANE_REPLY_NIL:
        tell(told, '_', "", 0);
        break;
    case REDLANE_REPLY_INTEGER:
        tell_number(told, ':', reply->number);
        break;
    case REDLANE_REPLY_STATUS:
    case REDLANE_REPLY_BULK:
        require(reply->text[reply->size] == '\0', "a text is closed");
        tell(told, '$', reply->text, reply->size);
        break;
    case REDLANE_REPLY_ERROR:
        tell(told, '-', "", 0);
        break;
    case REDLANE_REPLY_ARRAY:
        tell_number(told, '*', (long long)reply->count);
        for (size_t i = 0; i < reply->count; i++) {
            require(reply->elements[i] != NULL, "a complete array has all elements");
            tell_plain(told, reply->elements[i]);
        }
        break;
    }
}

/* --- a plain tree through the nodes of core/reply.c --------------------------------
 */

static void
append_nodes(RedlaneReply *nodes, const RedlanePlainReply *reply)
{
    switch (reply->kind) {
    case REDLANE_REPLY_NIL:
        redlane_reply_nil(nodes);
        break;
    case REDLANE_REPLY_INTEGER:
        redlane_reply_integer(nodes, reply->number);
        break;
    case REDLANE_REPLY_STATUS:
    case REDLANE_REPLY_BULK:
        redlane_reply_bulk(nodes, reply->text, reply->size);
        break;
    case REDLANE_REPLY_ERROR:
        redlane_reply_error(nodes, reply->text);
        break;
    case REDLANE_REPLY_ARRAY: {
        size_t mark = redlane_reply_array_open(nodes);

        for (size_t i = 0; i < reply->count; i++) {
            append_nodes(nodes, reply->elements[i]);
        }
        redlane_reply_array_close(nodes, mark, reply->count);
        break;
    }
    }
}

static void
check_nodes(const Input *input, const RedlanePlainReply *reply)
{
    RedlaneReply nodes = {.decode = input->decode, .make_bulk = redlane_convert_bulk};
    RedlaneBuffer plain = {0}, converted = {0};
    PyObject *object;

    append_nodes(&nodes, reply);
    object = redlane_convert_reply(state, &nodes);
    if (object) {
        tell_plain(&plain, reply);
        tell_object(&converted, object);
        require(plain.size == converted.size &&
                    memcmp(plain.data, converted.data, plain.size) == 0,
                "nodes become the same objects");
        Py_DECREF(object);
    }
    else {
        require(input->decode && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError),
                "only a text that is not UTF-8 cannot be converted");
        PyErr_Clear();
    }
    redlane_buffer_free(&nodes.nodes);
    redlane_buffer_free(&plain);
    redlane_buffer_free(&converted);
}

/* --- one reading --------------------------------------------------------------------
 */

/* As an exchange settles a reply. */
static PyObject *
settle(const Input *input, RedlaneReaderContext *context, PyObject *reply)
{
    PyObject *failure = context->failure;

    context->failure = NULL;
    if (!failure) {
        return reply;
    }
    require(PyList_CheckExact(reply), "only an array keeps a failure aside");
    if (input->keep_nested) {
        Py_DECREF(failure);
        return reply;
    }
    Py_DECREF(reply);
    return failure;
}

static void
take_reply(const Input *input, Builder builder, RedlaneReaderContext *context,
           void *reply, RedlaneBuffer *told)
{
    if (builder == PLAIN) {
        tell_plain(told, reply);
        check_nodes(input, reply);
        redlane_reply_plain_free(reply);
    }
    else {
        PyObject *object = settle(input, context, reply);

        tell_object(told, object);
        Py_DECREF(object);
    }
}

/* Moves up to `size` bytes into the reader. */
static size_t
feed(RedlaneReader *reader, const char *data, size_t size, int64_t wanted)
{
    size_t room;
    char *at = redlane_reader_room_nogil(reader, (size_t)wanted, &room);

    require(at && room > 0, "there is room");
    if (size > room) {
        size = room;
    }
    memcpy(at, data, size);
    redlane_reader_filled_nogil(reader, size);
    return size;
}

/* Feeds pieces until parsing is worth while or all is fed; -1 with a fault. */
static int64_t
feed_pieces(const Input *input, bool whole, RedlaneReader *reader, size_t *at,
            RedlaneFault *fault)
{
    int64_t wanted = 1;

    for (size_t turn = 0; wanted > 0 && *at < input->size &&
                          !(turn && redlane_reader_announces_bulk(reader, wanted));
         turn++) {
        size_t size = whole ? input->size : input->pieces[turn % 2];

        if (size > input->size - *at) {
            size = input->size - *at;
        }
        *at += feed(reader, input->stream + *at, size, wanted);
        wanted = redlane_reader_wanted_nogil(reader, fault);
    }
    return wanted;
}

static void
tell_fault(RedlaneBuffer *told, const RedlaneFault *fault)
{
    require(fault->kind == REDLANE_FAULT_PROTOCOL && fault->text[0],
            "what is refused has a reason");
    tell(told, '!', "", 0);
}

static void
read_stream(const Input *input, Builder builder, bool whole, RedlaneBuffer *told)
{
    RedlaneReader reader;
    RedlaneReaderContext context = {
        .transaction = input->keep_nested, .decode = input->decode, .state = state};
    RedlaneFault fault = {0};
    size_t at = 0;
    int parsed;

    require(redlane_reader_open(&reader, input->max_reply) == 0, "a reader opens");
    redlane_reader_build_with(&reader,
                              builder == PLAIN ? &redlane_reply_plain_functions
                                               : &redlane_reply_object_functions,
                              &context);
    reader.redis->maxelements = ELEMENTS;
    reader.takes_bulks = input->sinks && builder == OBJECTS;
    for (;;) {
        void *reply;
        int64_t wanted = redlane_reader_wanted_nogil(&reader, &fault);

        parsed = wanted < 0 ? -1 : redlane_reader_next(&reader, &reply, &fault);
        require(!PyErr_Occurred(), "no exception is left set");
        require(wanted <= 0 || parsed <= 0, "what is wanted is needed");
        if (parsed < 0) {
            break;
        }
        if (parsed) {
            take_reply(input, builder, &context, reply, told);
            if (input->trim && redlane_reader_unread(&reader) == 0) {
                redlane_reader_trim_nogil(&reader, reader.completed);
            }
            continue;
        }
        if (builder == OBJECTS) {
            require(redlane_reply_object_receive(&reader, &context) == 0, "memory");
        }
        if (at == input->size) {
            tell(told, redlane_reader_unread(&reader) || context.bulk ? '?' : '.', "",
                 0);
            break;
        }
        if (feed_pieces(input, whole, &reader, &at, &fault) < 0) {
            parsed = -1;
            break;
        }
    }
    if (parsed < 0) {
        tell_fault(told, &fault);
    }
    redlane_reader_close(&reader);
    Py_XDECREF((PyObject *)context.failure);
    Py_XDECREF((PyObject *)context.bulk);
}

/* --- comparing ------------------------------------------------------------------- */

static void
require_alike(const RedlaneBuffer *one, const RedlaneBuffer *other, const char *what)
{
    require(one->size == other->size && memcmp(one->data, other->data, one->size) == 0,
            what);
}

static void
check_input(const Input *input)
{
    RedlaneBuffer whole = {0}, pieces = {0}, plain = {0}, plain_pieces = {0};

    read_stream(input, OBJECTS, true, &whole);
    read_stream(input, OBJECTS, false, &pieces);
    read_stream(input, PLAIN, true, &plain);
    read_stream(input, PLAIN, false, &plain_pieces);
    require_alike(&whole, &pieces, "pieces change no object");
    require_alike(&plain, &plain_pieces, "pieces change no plain reply");
    if (!input->decode && input->keep_nested) {
        require_alike(&whole, &plain, "objects and plain replies say the same");
    }
    redlane_buffer_free(&whole);
    redlane_buffer_free(&pieces);
    redlane_buffer_free(&plain);
    redlane_buffer_free(&plain_pieces);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t limits[] = {1 << 20, 32, 200, 1500};
    Input input;
    int grown = 0;

    if (size < HEAD) {
        return 0;
    }
    input = (Input){
        .stream = (const char *)data + HEAD,
        .size = size - HEAD,
        .decode = data[0] & 1,
        .keep_nested = data[0] & 2,
        .max_reply = limits[data[0] >> 2 & 3],
        .trim = data[0] & 16,
        .sinks = data[0] & 32 && !(data[0] & 1),
        .pieces = {1 + (size_t)data[1] % 64, 1 + (size_t)data[2]},
    };
    for (int i = 0; i < REPEATS; i++) {
        long before = live;

        check_input(&input);
        if (live <= before) {
            break;
        }
        grown++;
    }
    require(grown < REPEATS, "nothing stays in memory");
    return 0;
}
