/* Traps by siglongjmp. The engine allocates nothing and holds no locks of the C library, so leaving
 * it in the middle of anything is safe; its memory is then rubbish, as after a loss of power.
 */
#include "trap.h"

#include <assert.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { SECONDS_MAX = 60 };

static sigjmp_buf place;
static volatile bool armed;
static char sentence[300];

static void leave(void)
{
    if (!armed) {
        fprintf(stderr, "%s\n", sentence);
        abort();
    }
    armed = false;
    siglongjmp(place, 1);
}

/* Takes the place of the C library's, to keep the text of the assertion. */
void __assert_fail(const char *assertion, const char *file, unsigned line, const char *function)
{
    snprintf(sentence, sizeof sentence, "%s:%u: %s: assertion failed: %s", file, line, function,
             assertion);
    leave();
    abort();
}

void trap_illegal(void *context, const char *text)
{
    (void)context;
    snprintf(sentence, sizeof sentence, "illegal use of the flash: %s", text);
    leave();
}

static void on_signal(int number)
{
    if (!armed) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    snprintf(sentence, sizeof sentence, "%s",
             number == SIGPROF ? "it hangs: more than a minute of processor time"
                               : strsignal(number));
    leave();
}

bool trap_run(void (*function)(void *context), void *context, char *why, size_t why_size)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGPROF};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    static struct sigaction old[COUNT];
    struct sigaction action = {.sa_flags = SA_NODEFER};
    struct itimerval limit = {.it_value = {SECONDS_MAX, 0}}, none = {.it_value = {0, 0}};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < COUNT; i++)
        sigaction(numbers[i], &action, &old[i]);
    setitimer(ITIMER_PROF, &limit, NULL);
    volatile bool returned = false;
    if (sigsetjmp(place, 1) == 0) {
        armed = true;
        function(context);
        returned = true;
    } else {
        snprintf(why, why_size, "%s", sentence);
    }
    armed = false;
    setitimer(ITIMER_PROF, &none, NULL);
    for (int i = 0; i < COUNT; i++)
        sigaction(numbers[i], &old[i], NULL);
    return returned;
}
