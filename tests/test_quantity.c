/* Quantities on the command line: what is a size, what a retention, and what is neither. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/quantity.h"

static void sizes_take_powers_of_1024_and_hexadecimal(void **state)
{
    static const struct {
        const char *text;
        uint64_t size;
    } sizes[] = {
        {"0", 0},
        {"4096", 4096},
        {"0x1000", 4096},
        {"4K", 4096},
        {"4k", 4096},
        {"3M", 3 << 20},
        {"2g", 2ull << 30},
        {"16KiB", 16384},
        {"0x10M", 16 << 20},
        {"010", 10},
        {"18446744073709551615", UINT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t size = 7;
        assert_true(quantity_size(sizes[i].text, &size));
        assert_int_equal(size, sizes[i].size);
    }
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "K",
                                        "4T",
                                        "4KB",
                                        "4KK",
                                        "1.5",
                                        "0x",
                                        "1e3",
                                        "18446744073709551616",
                                        "18014398509481984K"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t size;
        if (quantity_size(texts[i], &size))
            fail_msg("'%s' was taken for a size", texts[i]);
    }
}

static void retention_is_a_number_of_versions_or_a_span(void **state)
{
    static const struct {
        const char *text;
        uint32_t count, seconds;
    } retentions[] = {{"0", 0, 0},      {"8", 8, 0},       {"255", 255, 0},   {"90s", 0, 90},
                      {"30m", 0, 1800}, {"12h", 0, 43200}, {"7d", 0, 604800}, {"2w", 0, 1209600}};
    static const char *const wrong[] = {"",      "256", "d",   "-7d", "7D",
                                        "7days", "0d",  "7d ", "4K",  "99999999d"};
    uint32_t count, seconds;
    (void)state;
    for (size_t i = 0; i < sizeof retentions / sizeof retentions[0]; i++) {
        assert_true(quantity_retention(retentions[i].text, &count, &seconds));
        assert_int_equal(count, retentions[i].count);
        assert_int_equal(seconds, retentions[i].seconds);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (quantity_retention(wrong[i], &count, &seconds))
            fail_msg("'%s' was taken for a retention", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_take_powers_of_1024_and_hexadecimal),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(retention_is_a_number_of_versions_or_a_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
