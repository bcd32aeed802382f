/* What the files of native scripts share. Nothing outside src/store/engine_scripts*.c
 * includes it. The engine's lock is held throughout. */
#ifndef REDLANE_STORE_ENGINE_SCRIPTS_H
#define REDLANE_STORE_ENGINE_SCRIPTS_H

#include "store/engine_internal.h"

typedef struct {
    const RedlaneArg *keys, *argv;
    size_t count; /* of keys */
    size_t args;  /* of arguments */
} RedlaneScriptCall;

void redlane_script_presence_join(RedlaneEngine *engine, const RedlaneScriptCall *call,
                                  RedlaneReply *reply);
void redlane_script_presence_leave(RedlaneEngine *engine, const RedlaneScriptCall *call,
                                   RedlaneReply *reply);
void redlane_script_presence_read(RedlaneEngine *engine, const RedlaneScriptCall *call,
                                  RedlaneReply *reply);
void redlane_script_slot(RedlaneEngine *engine, const RedlaneScriptCall *call,
                         RedlaneReply *reply);

#endif
