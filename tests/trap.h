/* Runs a piece of a test so that a failed assertion of the engine, a crash or a hang in it is an
 * answer and not the end of the test. What the piece had allocated is lost then.
 */
#ifndef EKV_TESTS_TRAP_H
#define EKV_TESTS_TRAP_H

#include <stdbool.h>
#include <stddef.h>

/* Calls `function`. Returns true if it returned; false if it asserted, crashed, used the simulated
 * flash illegally (see trap_illegal) or took more than a minute of processor time; then `why` says
 * which. Not to be nested, nor used by two threads. */
bool trap_run(void (*function)(void *context), void *context, char *why, size_t why_size);

/* For the `illegal` hook of a simulated flash: ends the piece. Outside of one it aborts. */
void trap_illegal(void *context, const char *sentence);

#endif
