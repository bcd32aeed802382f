#include "core/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
redlane_fault_set(RedlaneFault *fault, RedlaneFaultKind kind, const char *format, ...)
{
    va_list arguments;

    fault->kind = kind;
    va_start(arguments, format);
    (void)vsnprintf(fault->text, sizeof(fault->text), format, arguments);
    va_end(arguments);
}

bool
redlane_fault_reply_is_outage(const char *line, size_t size)
{
    static const char *const words[] = {"LOADING ", "MASTERDOWN ", "CLUSTERDOWN "};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t length = strlen(words[i]);

        if (size >= length && memcmp(line, words[i], length) == 0) {
            return true;
        }
    }
    return false;
}
