/* Moments as people write them: versions, times with and without zones, and what is neither.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "host/moment.h"

static void use_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static int64_t time_of(const char *text)
{
    struct moment moment;
    assert_true(moment_parse(text, strlen(text), &moment));
    assert_true(moment.timed);
    return moment.time;
}

static void a_number_is_a_version(void **state)
{
    struct moment moment;
    (void)state;
    assert_true(moment_parse("271936", 6, &moment));
    assert_false(moment.timed);
    assert_int_equal(moment.version, 271936);
    assert_true(moment_parse("00000000271936", 14, &moment));
    assert_int_equal(moment.version, 271936);
    assert_true(moment_parse("12345", 3, &moment));
    assert_int_equal(moment.version, 123);
    assert_false(moment_parse("99999999999999999999", 20, &moment));
}

/* The expected seconds are those of `date -u -d 2026-11-21T10:00:00 +%s`. */
static void times_are_read_in_their_zone(void **state)
{
    static const int64_t ten = 1795255200LL * 1000000;
    (void)state;
    use_zone("UTC");
    assert_int_equal(time_of("2026-11-21T10:00:00"), ten + 999999);
    assert_int_equal(time_of("2026-11-21T10:00:00.25Z"), ten + 250000);
    assert_int_equal(time_of("2026-11-21 10:00"), ten + 999999);
    assert_int_equal(time_of("2026-11-21T12:30:00.0+02:30"), ten);
    assert_int_equal(time_of("2026-11-21T05:00:00.0-0500"), ten);
    assert_int_equal(time_of("2026-11-21"), ten - 36000LL * 1000000 + 999999);
    assert_int_equal(time_of("@1795255200"), ten + 999999);
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    assert_int_equal(time_of("2026-11-21T11:00:00.0"), ten);
    assert_int_equal(time_of("2026-11-21T10:00:00.0Z"), ten);
}

static void what_is_no_moment_is_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "-1",
                                        "now",
                                        "2026-13-01T00:00:00x",
                                        "2026-02-30",
                                        "2026-1-1",
                                        "12a",
                                        "2026-11-21T",
                                        "2026-11-21T10",
                                        "2026-11-21T25:00:00",
                                        "2026-11-21T10:61:00",
                                        "@",
                                        "@x",
                                        "2026-11-21T10:00:00+",
                                        "2026-11-21T10:00:00.",
                                        "2026-11-21T10:00:00Z0",
                                        "2026-13-01",
                                        "2026-11-21T10:00:00 and so on for a long time"};
    struct moment moment;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (moment_parse(wrong[i], strlen(wrong[i]), &moment))
            fail_msg("'%s' was taken", wrong[i]);
    assert_false(moment_parse("", 0, &moment));
    assert_false(moment_parse("1\0002", 3, &moment));
}

static void what_is_printed_is_read_back(void **state)
{
    char text[MOMENT_SIZE];
    (void)state;
    for (int zone = 0; zone < 4; zone++) {
        use_zone((const char *[]){"UTC", "CET-1CEST,M3.5.0,M10.5.0/3", "NST3:30", "LINT-14"}[zone]);
        for (int64_t second = 1; second < 4000000000; second += 12345678) {
            moment_print(second * 1000000, zone == 3, text);
            assert_int_equal(time_of(text), second * 1000000 + 999999);
        }
    }
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    moment_print(1795255200LL * 1000000, false, text);
    assert_string_equal(text, "2026-11-21T11:00:00+01:00");
    moment_print(1795255200LL * 1000000, true, text);
    assert_string_equal(text, "2026-11-21T10:00:00Z");
    moment_print(0, true, text);
    assert_string_equal(text, "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_is_a_version),
        cmocka_unit_test(times_are_read_in_their_zone),
        cmocka_unit_test(what_is_no_moment_is_refused),
        cmocka_unit_test(what_is_printed_is_read_back),
    };
    return cmocka_run_group_tests_name("moment", tests, NULL, NULL);
}
