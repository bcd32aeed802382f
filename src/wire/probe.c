#include "wire/probe.h"

#include "wire/connection.h"

int
redlane_wire_probe_nogil(const RedlaneSettings *settings, int64_t deadline,
                         RedlaneFault *fault)
{
    RedlaneConnection *connection = redlane_connection_new();
    const RedlaneWait wait = {.deadline = deadline};
    int result = -1;

    if (!connection) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    if (redlane_connection_open_nogil(connection, settings, &wait, fault) == 0 &&
        redlane_connection_ping_nogil(connection, &wait, fault) == 0) {
        result = 0;
    }
    redlane_connection_free(connection);
    return result;
}
