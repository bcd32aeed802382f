/* What the engine's tests share: checks, and commands as one line of text. */
#ifndef REDLANE_TEST_ENGINE_H
#define REDLANE_TEST_ENGINE_H

#include "harness.h"
#include "store/engine.h"

/* Runs a command given as words between single spaces; the reply as text, in a static
 * buffer: "+OK", ":1", "$value", "_", "-ERR …", "*2 $a $b". */
const char *ask(RedlaneEngine *engine, const char *line);

/* The same with arguments of any bytes. */
const char *ask_vector(RedlaneEngine *engine, const RedlaneArg *argv, size_t argc);

/* Asks, and checks the reply. */
void check_reply(RedlaneEngine *engine, const char *line, const char *wanted,
                 const char *file, int where);

#define CHECK_REPLY(engine, line, wanted) \
    check_reply((engine), (line), (wanted), __FILE__, __LINE__)

/* What ask gave last. */
const char *ask_last(void);

void test_table(void);
void test_engine(void);
void test_engine_memory(void);

#endif
