/* The simulated flash: that it refuses what a chip would, leaves what a cut may leave, and counts
 * as the flash model says. Everything else that is tested on it rests on this.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/nor.h"

static jmp_buf after_illegal;
static char sentence_of_illegal[200];

static void on_illegal(void *context, const char *sentence)
{
    (void)context;
    snprintf(sentence_of_illegal, sizeof sentence_of_illegal, "%s", sentence);
    longjmp(after_illegal, 1);
}

static struct nor nor;

static void start(uint32_t write_unit, bool program_once, enum nor_start how, uint64_t seed)
{
    struct ekv_geometry geometry = {1024, 8, write_unit, program_once};
    assert_true(nor_init(&nor, &geometry, how, seed));
    nor.illegal = on_illegal;
}

static int teardown(void **state)
{
    (void)state;
    if (nor.block)
        nor_free(&nor);
    return 0;
}

static int program(uint32_t address, const void *data, uint32_t size)
{
    return nor.flash.driver->program(&nor, address, data, size);
}

static int erase(uint32_t sector)
{
    return nor.flash.driver->erase(&nor, sector);
}

static int read_at(uint32_t address, void *buffer, uint32_t size)
{
    return nor.flash.driver->read(&nor, address, buffer, size);
}

/* Does one operation and gives the sentence that it was refused with, or "". */
static const char *refused(unsigned operation, uint32_t address, void *data, uint32_t size)
{
    sentence_of_illegal[0] = 0;
    if (setjmp(after_illegal) != 0)
        return sentence_of_illegal;
    if (operation == NOR_PROGRAM)
        (void)!program(address, data, size);
    else if (operation == NOR_READ)
        (void)!read_at(address, data, size);
    else
        (void)!erase(address);
    return sentence_of_illegal;
}

static void assert_refused(const char *words, const char *sentence)
{
    if (!strstr(sentence, words))
        fail_msg("expected '%s', got '%s'", words, sentence);
}

static void what_is_programmed_is_read_until_it_is_erased(void **state)
{
    (void)state;
    uint8_t buffer[4];
    start(1, false, NOR_FRESH, 1);
    assert_int_equal(program(10, "abcd", 4), 0);
    assert_int_equal(read_at(10, buffer, 4), 0);
    assert_memory_equal(buffer, "abcd", 4);
    assert_int_equal(erase(0), 0);
    assert_int_equal(read_at(10, buffer, 4), 0);
    assert_memory_equal(buffer, "\xff\xff\xff\xff", 4);
    assert_int_equal(program(10, "efgh", 4), 0);
}

static void illegal_use_is_refused(void **state)
{
    (void)state;
    uint8_t data[8] = {0};
    start(4, false, NOR_FRESH, 1);
    assert_int_equal(program(8, data, 8), 0);
    assert_refused("0x8 is programmed before", refused(NOR_PROGRAM, 8, data, 4));
    assert_refused("0x8 is programmed before", refused(NOR_PROGRAM, 4, data, 8));
    assert_refused("write unit of 4", refused(NOR_PROGRAM, 18, data, 4));
    assert_refused("write unit of 4", refused(NOR_PROGRAM, 20, data, 3));
    assert_refused("write unit of 4", refused(NOR_PROGRAM, 20, data, 0));
    assert_refused("out of bounds", refused(NOR_PROGRAM, 8 * 1024 - 4, data, 8));
    assert_refused("out of bounds", refused(NOR_PROGRAM, 0xfffffffc, data, 8));
    assert_refused("out of bounds", refused(NOR_READ, 8 * 1024 - 4, data, 8));
    assert_refused("out of bounds", refused(NOR_ERASE, 8, NULL, 0));
}

static void programming_even_blank_bytes_counts_as_a_program(void **state)
{
    (void)state;
    start(1, false, NOR_FRESH, 1);
    assert_int_equal(program(0, "\xff\xff", 2), 0);
    assert_refused("programmed before", refused(NOR_PROGRAM, 1, (char[]){"a"}, 1));
}

static void an_aged_chip_must_be_erased_before_use(void **state)
{
    (void)state;
    start(1, false, NOR_AGED, 1);
    assert_refused("not known to be erased", refused(NOR_PROGRAM, 2048, (char[]){"a"}, 1));
    assert_int_equal(erase(2), 0);
    assert_int_equal(program(2048, "a", 1), 0);
    assert_refused("not known to be erased", refused(NOR_PROGRAM, 3071, (char[]){"ab"}, 2));
}

static void without_a_hook_illegal_use_aborts(void **state)
{
    (void)state;
    start(1, false, NOR_AGED, 1);
    nor.illegal = NULL;
    assert_int_equal(fflush(NULL), 0);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(pipes[1], 2);
        (void)!program(0, "a", 1);
        _exit(0);
    }
    close(pipes[1]);
    char text[200] = "";
    assert_true(read(pipes[0], text, sizeof text - 1) > 0);
    close(pipes[0]);
    assert_non_null(strstr(text, "nor: program of 1 bytes at 0x0, where 0x0 is not known"));
}

static void operations_are_counted_and_timed_by_the_flash_model(void **state)
{
    (void)state;
    uint8_t data[600] = {0};
    start(1, false, NOR_FRESH, 1);
    assert_int_equal(program(200, data, 600), 0); /* pages 0, 1, 2 and 3 */
    assert_int_equal(read_at(0, data, 500), 0);
    assert_int_equal(erase(0), 0);
    assert_int_equal(nor.now.counts.programs, 4);
    assert_int_equal(nor.now.counts.programmed_size, 600);
    assert_int_equal(nor.now.counts.reads, 1);
    assert_int_equal(nor.now.counts.read_size, 500);
    assert_int_equal(nor.now.counts.erases, 1);
    assert_int_equal(nor.erase_counts[0], 1);
    assert_int_equal(nor.erase_counts[1], 0);
    assert_int_equal(nor.now.counts.time,
                     4 * 30000 + 600 * 1450 + 1000 + 500 * 20 + UINT64_C(45000000));
    nor_count_reset(&nor);
    assert_int_equal(nor.now.counts.time, 0);
    assert_int_equal(nor.erase_counts[0], 0);
}

/* Cuts a program of `data` over erased bytes; what is left is read `count` times into `seen`. */
static void cut_program(enum nor_cut mode, const uint8_t *data, uint32_t size, uint8_t *seen,
                        uint32_t count)
{
    assert_int_equal(erase(1), 0);
    nor_cut_at(&nor, 1, mode);
    assert_int_not_equal(program(1024, data, size), 0);
    assert_int_not_equal(read_at(1024, seen, size), 0);
    assert_int_not_equal(erase(3), 0);
    nor_power_on(&nor);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(read_at(1024, seen + i * size, size), 0);
}

static bool all_are(const uint8_t *bytes, uint32_t size, uint8_t value)
{
    for (uint32_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static void a_cut_program_leaves_each_kind_of_rest(void **state)
{
    (void)state;
    enum { SIZE = 32, READS = 64, SEEDS = 64 };
    uint8_t data[SIZE], seen[SIZE * READS];
    uint32_t prefixes = 0, bits = 0, garbled = 0, unstable = 0;
    memset(data, 0x55, SIZE);
    start(1, false, NOR_AGED, 1);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        nor_seed(&nor, seed);
        cut_program(NOR_CUT_INVISIBLE, data, SIZE, seen, 1);
        assert_true(all_are(seen, SIZE, 0xff));

        cut_program(NOR_CUT_COMPLETE, data, SIZE, seen, 2);
        assert_true(all_are(seen, 2 * SIZE, 0x55));

        cut_program(NOR_CUT_BYTES, data, SIZE, seen, 2);
        uint32_t prefix = 0;
        while (prefix < SIZE && seen[prefix] == 0x55)
            prefix++;
        assert_true(all_are(seen + prefix, SIZE - prefix, 0xff));
        assert_memory_equal(seen, seen + SIZE, SIZE);
        prefixes += prefix > 0 && prefix < SIZE;

        cut_program(NOR_CUT_BITS, data, SIZE, seen, 2);
        for (uint32_t i = 0; i < SIZE; i++)
            assert_int_equal(seen[i] & 0x55, 0x55);
        assert_memory_equal(seen, seen + SIZE, SIZE);
        bits += !all_are(seen, SIZE, 0x55) && !all_are(seen, SIZE, 0xff);

        cut_program(NOR_CUT_GARBLED, data, SIZE, seen, 1);
        for (uint32_t i = 0; i < SIZE; i++)
            garbled += (seen[i] & 0x55) != 0x55;

        cut_program(NOR_CUT_UNSTABLE, data, SIZE, seen, READS);
        for (uint32_t i = 0; i < READS * SIZE; i++)
            assert_int_equal(seen[i] & 0x55, 0x55);
        for (uint32_t i = 1; i < READS; i++)
            unstable += memcmp(seen, seen + i * SIZE, SIZE) != 0;
    }
    assert_true(nor_is_unstable(&nor));
    assert_int_equal(erase(1), 0);
    assert_false(nor_is_unstable(&nor));
    assert_true(prefixes > SEEDS / 2);
    assert_true(bits > SEEDS / 2);
    assert_true(garbled > SEEDS);
    assert_true(unstable > SEEDS * READS / 8);
}

static void a_cut_erase_leaves_each_kind_of_rest_and_proves_nothing(void **state)
{
    (void)state;
    enum { SIZE = 1024, SEEDS = 32 };
    uint8_t zeroes[SIZE] = {0}, seen[2 * SIZE];
    uint32_t differ = 0, blank = 0;
    start(1, false, NOR_AGED, 1);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (int mode = 0; mode < NOR_CUT_COUNT; mode++) {
            nor_seed(&nor, seed);
            assert_int_equal(erase(1), 0);
            assert_int_equal(program(1024, zeroes, SIZE), 0);
            nor_cut_at(&nor, 1, (enum nor_cut)mode);
            assert_int_not_equal(erase(1), 0);
            nor_power_on(&nor);
            assert_int_equal(read_at(1024, seen, SIZE), 0);
            assert_int_equal(read_at(1024, seen + SIZE, SIZE), 0);
            assert_refused("not known to be erased", refused(NOR_PROGRAM, 1024, (char[]){"a"}, 1));
            if (mode == NOR_CUT_INVISIBLE)
                assert_true(all_are(seen, SIZE, 0));
            if (mode == NOR_CUT_COMPLETE)
                assert_true(all_are(seen, SIZE, 0xff));
            if (mode == NOR_CUT_BYTES)
                assert_int_equal(seen[0] ^ seen[SIZE - 1], 0xff);
            if (mode == NOR_CUT_UNSTABLE) {
                differ += memcmp(seen, seen + SIZE, SIZE) != 0;
                blank += all_are(seen, SIZE, 0xff);
            }
        }
    }
    assert_true(differ > SEEDS / 4);
    assert_true(blank > SEEDS / 8);
}

static void the_cut_comes_at_the_operation_that_was_named(void **state)
{
    (void)state;
    start(1, false, NOR_FRESH, 1);
    nor_cut_at(&nor, 3, NOR_CUT_RANDOM);
    assert_int_equal(program(0, "a", 1), 0);
    assert_int_equal(erase(2), 0);
    assert_int_not_equal(program(1, "b", 1), 0);
    assert_int_not_equal(program(2, "c", 1), 0);
    nor_power_on(&nor);
    assert_int_equal(program(2, "c", 1), 0);
    assert_int_equal(nor.now.operations, 4);
}

static void only_the_same_bytes_may_follow_a_cut_program(void **state)
{
    (void)state;
    for (int mode = 0; mode < NOR_CUT_COUNT; mode++) {
        uint8_t seen[4];
        start(1, false, NOR_FRESH, (uint64_t)mode);
        nor_cut_at(&nor, 1, (enum nor_cut)mode);
        assert_int_not_equal(program(0, "abcd", 4), 0);
        nor_power_on(&nor);
        assert_refused("with other bytes, when power was cut",
                       refused(NOR_PROGRAM, 0, (char[]){"abce"}, 4));
        assert_refused("with other bytes, when power was cut",
                       refused(NOR_PROGRAM, 3, (char[]){"e"}, 1));
        assert_int_equal(program(0, "abcd", 4), 0);
        for (int i = 0; i < 32 && mode != NOR_CUT_GARBLED; i++) {
            assert_int_equal(read_at(0, seen, 4), 0);
            assert_memory_equal(seen, "abcd", 4);
        }
        assert_refused("programmed before", refused(NOR_PROGRAM, 0, (char[]){"abcd"}, 4));
        nor_free(&nor);

        start(1, true, NOR_FRESH, (uint64_t)mode);
        nor_cut_at(&nor, 1, (enum nor_cut)mode);
        assert_int_not_equal(program(0, "abcd", 4), 0);
        nor_power_on(&nor);
        assert_refused("when power was cut", refused(NOR_PROGRAM, 0, (char[]){"abcd"}, 4));
        nor_free(&nor);
    }
}

static void operations_fail_where_they_are_told_to(void **state)
{
    (void)state;
    uint8_t byte;
    start(1, false, NOR_FRESH, 1);
    nor_fail(&nor, (struct nor_failure){NOR_READ, NOR_ANY_SECTOR, 2, 1, false});
    assert_int_equal(read_at(0, &byte, 1), 0);
    assert_int_equal(read_at(0, &byte, 1), 0);
    assert_false(nor.now.failures[0].met);
    assert_int_not_equal(read_at(0, &byte, 1), 0);
    assert_true(nor.now.failures[0].met);
    assert_int_equal(read_at(0, &byte, 1), 0);

    nor_fail(&nor, (struct nor_failure){NOR_PROGRAM | NOR_ERASE, 5, 0, NOR_FOR_GOOD, false});
    assert_int_equal(erase(4), 0);
    assert_int_equal(program(4 * 1024, "a", 1), 0);
    assert_int_not_equal(program(5 * 1024, "a", 1), 0);
    assert_int_not_equal(erase(5), 0);
    assert_int_not_equal(erase(5), 0);
    nor_fail_none(&nor);
    assert_refused("not known to be erased", refused(NOR_PROGRAM, 5 * 1024, (char[]){"a"}, 1));
    assert_int_equal(erase(5), 0);
    assert_int_equal(program(5 * 1024, "a", 1), 0);
}

static void a_snapshot_brings_everything_back(void **state)
{
    (void)state;
    uint8_t first[64], second[64];
    start(1, false, NOR_AGED, 7);
    assert_int_equal(erase(1), 0);
    struct nor_snapshot *one = nor_snapshot_new(&nor), *two = nor_snapshot_new(&nor);
    assert_non_null(one);
    assert_non_null(two);
    nor_snapshot_take(&nor, one);
    for (int round = 0; round < 3; round++) {
        nor_cut_at(&nor, 2, NOR_CUT_UNSTABLE);
        assert_int_equal(program(1024, "abcd", 4), 0);
        assert_int_not_equal(program(1028, "efghijklmn", 10), 0);
        nor_power_on(&nor);
        nor_snapshot_take(&nor, two);
        assert_int_equal(read_at(1024, first, 64), 0);
        assert_int_equal(erase(1), 0);
        assert_int_equal(erase(2), 0);
        nor_snapshot_restore(&nor, two);
        assert_int_equal(nor.now.counts.erases, 1);
        assert_int_equal(nor.erase_counts[2], 0);
        assert_int_equal(read_at(1024, second, 64), 0);
        assert_memory_equal(first, second, 64);
        assert_refused("programmed before", refused(NOR_PROGRAM, 1024, (char[]){"abcd"}, 4));
        nor_snapshot_restore(&nor, one);
        assert_int_equal(read_at(1024, second, 64), 0);
        assert_true(all_are(second, 64, 0xff));
    }
    nor_snapshot_free(one);
    nor_snapshot_free(two);
}

static void a_mapped_flash_is_settled_when_power_returns(void **state)
{
    (void)state;
    uint8_t seen[16];
    uint32_t changes = 0;
    start(1, false, NOR_FRESH, 3);
    nor_map(&nor);
    assert_ptr_equal(nor.flash.map, nor.bytes);
    nor_cut_at(&nor, 1, NOR_CUT_UNSTABLE);
    assert_int_not_equal(program(0, "0123456789abcdef", 16), 0);
    memcpy(seen, nor.flash.map, 16);
    for (int i = 0; i < 64; i++) {
        nor_power_on(&nor);
        changes += memcmp(seen, nor.flash.map, 16) != 0;
        memcpy(seen, nor.flash.map, 16);
    }
    assert_true(changes > 8);
}

static void a_saved_flash_is_loaded_as_it_was(void **state)
{
    (void)state;
    char path[] = "/tmp/test_nor.XXXXXX";
    int file = mkstemp(path);
    uint8_t seen[4];
    assert_true(file >= 0);
    close(file);
    start(1, false, NOR_FRESH, 1);
    assert_int_equal(program(100, "abcd", 4), 0);
    assert_true(nor_save(&nor, path));
    assert_int_equal(erase(0), 0);
    assert_true(nor_load(&nor, path));
    assert_int_equal(read_at(100, seen, 4), 0);
    assert_memory_equal(seen, "abcd", 4);
    assert_refused("programmed before", refused(NOR_PROGRAM, 100, (char[]){"a"}, 1));
    assert_int_equal(program(104, "a", 1), 0);
    assert_int_equal(truncate(path, 100), 0);
    assert_false(nor_load(&nor, path));
    unlink(path);
}

static void more_reads_than_allowed_are_a_hang(void **state)
{
    (void)state;
    uint8_t byte;
    start(1, false, NOR_FRESH, 1);
    nor_read_limit(&nor, 2);
    assert_int_equal(read_at(0, &byte, 1), 0);
    assert_int_equal(read_at(0, &byte, 1), 0);
    assert_refused("hangs", refused(NOR_READ, 0, &byte, 1));
    nor_read_limit(&nor, 0);
    assert_int_equal(read_at(0, &byte, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_programmed_is_read_until_it_is_erased, teardown),
        cmocka_unit_test_teardown(illegal_use_is_refused, teardown),
        cmocka_unit_test_teardown(programming_even_blank_bytes_counts_as_a_program, teardown),
        cmocka_unit_test_teardown(an_aged_chip_must_be_erased_before_use, teardown),
        cmocka_unit_test_teardown(without_a_hook_illegal_use_aborts, teardown),
        cmocka_unit_test_teardown(operations_are_counted_and_timed_by_the_flash_model, teardown),
        cmocka_unit_test_teardown(a_cut_program_leaves_each_kind_of_rest, teardown),
        cmocka_unit_test_teardown(a_cut_erase_leaves_each_kind_of_rest_and_proves_nothing,
                                  teardown),
        cmocka_unit_test_teardown(the_cut_comes_at_the_operation_that_was_named, teardown),
        cmocka_unit_test_teardown(only_the_same_bytes_may_follow_a_cut_program, teardown),
        cmocka_unit_test_teardown(operations_fail_where_they_are_told_to, teardown),
        cmocka_unit_test_teardown(a_snapshot_brings_everything_back, teardown),
        cmocka_unit_test_teardown(a_mapped_flash_is_settled_when_power_returns, teardown),
        cmocka_unit_test_teardown(a_saved_flash_is_loaded_as_it_was, teardown),
        cmocka_unit_test_teardown(more_reads_than_allowed_are_a_hang, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
