/* What the near cache's unit tests share. */
#ifndef REDLANE_TEST_NEAR_H
#define REDLANE_TEST_NEAR_H

#include "harness.h"
#include "near/near_internal.h"

void test_prefixes(void);
void test_values(void);
void test_dependants(void);
void test_push(void);

#endif
