/* Long runs by chance: any geometry, any workload, the power cut at random moments, and again while
 * the store recovers from that. EKV_RANDOM_SEED and EKV_RANDOM_RUNS choose other and more runs; a
 * failure names the seed of its run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cuts.h"

enum { RUNS = 40, STEPS = 400 };

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void on_violation(const char *line)
{
    print_error("%s\n", line);
}

static void random_runs_with_cuts_lose_nothing(void **state)
{
    (void)state;
    uint64_t seed = number_of("EKV_RANDOM_SEED", 1);
    uint64_t runs = number_of("EKV_RANDOM_RUNS", RUNS);
    struct cuts_result result = {0};
    for (uint64_t i = 0; i < runs && result.violations < 5; i++)
        cuts_run_random(seed + i, STEPS, on_violation, &result);
    assert_int_equal(result.violations, 0);
    assert_true(result.tried > runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_runs_with_cuts_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
