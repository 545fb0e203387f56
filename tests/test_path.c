/* Tests of the mapping between keys and paths: the table of the interface as it is written, and
 * both directions for random keys. EKV_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/path.h"

enum { KEY_MAX = 4000, PATH_MAX_SIZE = 3 * KEY_MAX + KEY_MAX / 100 + 16 };

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % limit);
}

static void expect(const char *key, size_t size, bool directory, const char *path)
{
    char got[PATH_MAX_SIZE];
    size_t length = path_from_key((const uint8_t *)key, size, directory, got, sizeof got);
    assert_string_equal(got, path);
    assert_int_equal(length, strlen(path));
    uint8_t back[PATH_MAX_SIZE];
    size_t back_size;
    assert_true(path_to_key(path, strlen(path), back, &back_size));
    assert_int_equal(back_size, size);
    assert_memory_equal(back, key, size);
}

#define EXPECT(key, path) expect(key, sizeof key - 1, false, path)

static void keys_have_the_paths_of_the_interface(void **state)
{
    (void)state;
    EXPECT("ip", "ip");
    EXPECT("net/eth0/mac", "net/eth0/mac");
    EXPECT("50%", "50%25");
    EXPECT("a\0b", "a%00b");
    EXPECT(".", "%2E");
    EXPECT("..", "%2E%2E");
    EXPECT("a/../.", "a/%2E%2E/%2E");
    EXPECT("...", "...");
    EXPECT(".ekv", "%2Eekv");
    EXPECT(".ekv/tx", "%2Eekv/tx");
    EXPECT("a/.ekv", "a/.ekv");
    EXPECT(".ekvx", ".ekvx");
    EXPECT("", "%");
    EXPECT("/", "%/%");
    EXPECT("//", "%/%/%");
    EXPECT("/a", "%/a");
    EXPECT("a/", "a/%");
    EXPECT("a//b", "a/%/b");
    EXPECT("\xff\xfe", "\xff\xfe");
    EXPECT("%value", "%25value");
    EXPECT("a/%+", "a/%25+");
    expect("a", 1, true, "a/%value");
    expect("", 0, true, "%/%value");
    expect("a/", 2, true, "a/%/%value");
}

static void long_names_are_cut_into_parts(void **state)
{
    (void)state;
    char key[600], path[800];
    memset(key, 'A', sizeof key);
    snprintf(path, sizeof path, "%.255s", key);
    expect(key, 255, false, path);
    snprintf(path, sizeof path, "%.253s%%+/AAA", key);
    expect(key, 256, false, path);
    snprintf(path, sizeof path, "%.253s%%+/%.253s%%+/%.94s", key, key, key);
    expect(key, 600, false, path);
    key[250] = '%'; /* an escape is never cut in two */
    snprintf(path, sizeof path, "%.250s%%25%%+/%.49s", key, key);
    expect(key, 300, false, path);
    memset(key, 'A', sizeof key);
    key[251] = 0;
    snprintf(path, sizeof path, "%.251s%%+/%%00%.48s", key, key + 252);
    expect(key, 300, false, path);
    key[300] = '/'; /* the name after a long one */
    snprintf(path, sizeof path, "%.251s%%+/%%00%.48s/%.3s", key, key + 252, key);
    expect(key, 304, false, path);
}

static void paths_that_are_no_canonical_spelling_are_refused(void **state)
{
    (void)state;
    static const char *const paths[] = {
        "",         "/",          "a/",      "/a",   "a//b", "%zz",    "50%",     "%2",
        "%41",      "%2e",        "%2F",     "%2Ea", "x%2E", "%25%",   "%2E%2Eb", "%2E%2E.",
        "a/%2Eekv", "%2Eekvx",    ".ekv",    "./a",  "a/..", "%+",     "a%+/b",   "%value",
        "%%",       "a/%value/b", ".ekv/tx", "%/",   "%00%", "%2E%00", "%value"};
    uint8_t key[64];
    size_t size;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (path_to_key(paths[i], strlen(paths[i]), key, &size))
            fail_msg("accepted: %s", paths[i]);

    /* Parts that are too short, or followed by what would have fitted. */
    char letters[300], path[600];
    uint8_t large[600];
    memset(letters, 'A', sizeof letters);
    static const int wrong[][2] = {{250, 200}, {251, 200}, {252, 200},
                                   {253, 1},   {253, 2},   {254, 9}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int length =
            snprintf(path, sizeof path, "%.*s%%+/%.*s", wrong[i][0], letters, wrong[i][1], letters);
        if (path_to_key(path, (size_t)length, large, &size))
            fail_msg("accepted: a part of %d bytes, then %d", wrong[i][0], wrong[i][1]);
    }
    int length = snprintf(path, sizeof path, "%.253s%%+", letters);
    assert_false(path_to_key(path, (size_t)length, large, &size));
    length = snprintf(path, sizeof path, "%.253s%%+/%%value", letters);
    assert_false(path_to_key(path, (size_t)length, large, &size));
}

/* Keys made mostly of what is special, around the lengths where names are cut. */
static size_t random_key(uint8_t *key)
{
    static const char special[] = "%/.\0+/%2E5eAkvalu";
    size_t size = random_below(4)
                      ? random_below(12)
                      : (random_below(8) ? 240 + random_below(40) : random_below(KEY_MAX));
    uint32_t style = random_below(4);
    for (size_t i = 0; i < size; i++) {
        if (style == 0)
            key[i] = (uint8_t)random_below(256);
        else if (style == 1)
            key[i] = (uint8_t)special[random_below(sizeof special)];
        else
            key[i] = (uint8_t)(random_below(style == 2 ? 10 : 60) ? 'A' : special[random_below(6)]);
    }
    return size;
}

static void check_names(const char *path)
{
    for (const char *name = path;; name++) {
        size_t length = strcspn(name, "/");
        assert_in_range(length, 1, PATH_NAME_MAX);
        assert_false(length == 1 && name[0] == '.');
        assert_false(length == 2 && name[0] == '.' && name[1] == '.');
        name += length;
        if (*name == 0)
            return;
    }
}

static void every_key_has_one_path_and_comes_back(void **state)
{
    (void)state;
    static uint8_t key[KEY_MAX], back[PATH_MAX_SIZE];
    static char path[PATH_MAX_SIZE];
    for (int i = 0; i < 200000; i++) {
        size_t size = random_key(key), back_size = 0;
        bool directory = random_below(4) == 0;
        size_t length = path_from_key(key, size, directory, path, sizeof path);
        assert_int_equal(length, strlen(path));
        check_names(path);
        assert_true(strncmp(path, ".ekv", 4) != 0 || (path[4] != 0 && path[4] != '/'));
        if (!path_to_key(path, length, back, &back_size))
            fail_msg("no key for %s", path);
        assert_int_equal(back_size, size);
        assert_memory_equal(back, key, size);
    }
}

static void every_accepted_path_is_the_path_of_its_key(void **state)
{
    (void)state;
    static uint8_t key[PATH_MAX_SIZE];
    static char path[PATH_MAX_SIZE], again[2 * PATH_MAX_SIZE];
    int accepted = 0;
    for (int i = 0; i < 300000; i++) {
        static const char *const pieces[] = {"%",      "25",   "00",  "2E",  "/",   ".", "+", "A",
                                             "%value", ".ekv", "%2E", "%00", "%25", "/", "b"};
        size_t length = 0, size;
        if (random_below(3) == 0) {
            length = 248 + random_below(8);
            memset(path, 'A', length);
        }
        for (uint32_t n = random_below(8); n > 0; n--) {
            const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
            memcpy(path + length, piece, strlen(piece));
            length += strlen(piece);
        }
        path[length] = 0;
        if (!path_to_key(path, length, key, &size))
            continue;
        accepted++;
        bool directory = length > 7 && strcmp(path + length - 7, "/%value") == 0;
        path_from_key(key, size, directory, again, sizeof again);
        assert_string_equal(again, path);
    }
    assert_true(accepted > 10000);
}

static void expect_prefix(const char *prefix, size_t size, const char *path)
{
    static char got[PATH_MAX_SIZE];
    static uint8_t back[PATH_MAX_SIZE];
    size_t back_size;
    size_t length = path_from_prefix((const uint8_t *)prefix, size, got, sizeof got);
    assert_string_equal(got, path);
    assert_int_equal(length, strlen(path));
    assert_true(path_to_prefix(path, length, back, &back_size));
    assert_int_equal(back_size, size);
    assert_memory_equal(back, prefix, size);
}

static void directories_have_prefixes(void **state)
{
    (void)state;
    char part[600], path[800];
    uint8_t bytes[800];
    size_t size = 99;
    assert_true(path_to_prefix("", 0, bytes, &size));
    assert_int_equal(size, 0);
    expect_prefix("a/", 2, "a");
    expect_prefix("/", 1, "%");
    expect_prefix("a//", 3, "a/%");
    expect_prefix(".ekv/../", 8, "%2Eekv/%2E%2E");
    expect_prefix("a/\0b%/", 6, "a/%00b%25");
    memset(part, 'A', sizeof part);
    snprintf(path, sizeof path, "%.253s%%+", part);
    expect_prefix(part, 253, path);
    snprintf(path, sizeof path, "%.253s%%+/%.253s%%+", part, part);
    expect_prefix(part, 506, path);
    part[260] = '/'; /* a component that was cut, as a directory */
    snprintf(path, sizeof path, "%.253s%%+/AAAAAAA", part);
    expect_prefix(part, 261, path);
    assert_int_equal(path_from_prefix((const uint8_t *)"a", 1, path, sizeof path), 0);
    assert_int_equal(path_from_prefix((const uint8_t *)part, 255, path, sizeof path), 0);
    assert_int_equal(path_from_prefix((const uint8_t *)"aaaa/", 5, path, 5), 0);
    static const char *const wrong[] = {"a/", "/", "%value", "a/%value", ".", "%zz", "A%+", ".ekv"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (path_to_prefix(wrong[i], strlen(wrong[i]), bytes, &size))
            fail_msg("accepted: %s", wrong[i]);
}

/* The directories of a key's path are those whose prefixes the key begins with. */
static void the_prefix_of_each_directory_begins_the_key(void **state)
{
    (void)state;
    static uint8_t key[KEY_MAX], prefix[PATH_MAX_SIZE];
    static char path[PATH_MAX_SIZE], again[PATH_MAX_SIZE];
    int seen = 0;
    for (int i = 0; i < 50000; i++) {
        size_t size = random_key(key), prefix_size;
        size_t length = path_from_key(key, size, false, path, sizeof path);
        for (size_t at = 0; at < length; at++) {
            if (path[at] != '/')
                continue;
            assert_true(path_to_prefix(path, at, prefix, &prefix_size));
            assert_true(prefix_size <= size);
            assert_memory_equal(prefix, key, prefix_size);
            assert_int_equal(path_from_prefix(prefix, prefix_size, again, sizeof again), at);
            assert_memory_equal(again, path, at);
            seen++;
        }
    }
    assert_true(seen > 10000);
}

static void expect_whole(const char *key, size_t size, const char *expected)
{
    static char path[PATH_MAX_SIZE];
    static uint8_t back[PATH_MAX_SIZE];
    size_t back_size, length = path_from_whole((const uint8_t *)key, size, path, sizeof path);
    assert_string_equal(path, expected);
    assert_int_equal(length, strlen(expected));
    assert_true(path_to_whole(path, length, back, &back_size));
    assert_int_equal(back_size, size);
    assert_memory_equal(back, key, size);
}

static void whole_keys_are_one_name_or_its_parts(void **state)
{
    (void)state;
    char key[600], expected[700];
    expect_whole("net/ip", 6, "net%2Fip");
    expect_whole("", 0, "%");
    expect_whole(".", 1, "%2E");
    expect_whole("..", 2, "%2E%2E");
    expect_whole(".ekv", 4, ".ekv");
    expect_whole("%value", 6, "%25value");
    expect_whole("a\0/", 3, "a%00%2F");
    memset(key, 'k', sizeof key);
    memset(expected, 'k', 255);
    expected[255] = 0;
    expect_whole(key, 255, expected);
    memcpy(expected + 253, "%+/kkk", 7);
    expect_whole(key, 256, expected);
    key[252] = '/'; /* its escape does not fit into the part */
    memcpy(expected + 252, "%+/%2Fk", 8);
    expect_whole(key, 254, expected);
    key[252] = 'k';
    memset(expected, 'k', sizeof expected);
    memcpy(expected + 253, "%+/", 3);
    memcpy(expected + 509, "%+/", 3);
    expected[512 + 94] = 0;
    expect_whole(key, 600, expected);
}

static void whole_keys_come_back(void **state)
{
    (void)state;
    static uint8_t key[KEY_MAX], back[PATH_MAX_SIZE];
    static char path[PATH_MAX_SIZE];
    int cut = 0;
    for (int i = 0; i < 100000; i++) {
        size_t size = random_key(key), back_size;
        size_t length = path_from_whole(key, size, path, sizeof path);
        assert_true(length > 0);
        cut += strchr(path, '/') != NULL;
        for (const char *name = path; name;
             name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL) {
            size_t name_size = strcspn(name, "/");
            assert_true(name_size > 0 && name_size <= PATH_NAME_MAX);
            assert_false(name_size <= 2 && memcmp(name, "..", name_size) == 0);
        }
        assert_true(path_to_whole(path, length, back, &back_size));
        assert_int_equal(back_size, size);
        assert_memory_equal(back, key, size);
    }
    assert_true(cut > 1000);
    static const char *const refused[] = {"a%2Eb", "%2f",    "",      ".",
                                          "a/b",   "%value", "a%+/b", "%2Eekv"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_false(path_to_whole(refused[i], strlen(refused[i]), back, &(size_t){0}));
}

int main(void)
{
    const char *seed = getenv("EKV_SEED");
    random_state = seed ? strtoull(seed, NULL, 0) : 1;
    print_message("EKV_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_the_paths_of_the_interface),
        cmocka_unit_test(long_names_are_cut_into_parts),
        cmocka_unit_test(paths_that_are_no_canonical_spelling_are_refused),
        cmocka_unit_test(every_key_has_one_path_and_comes_back),
        cmocka_unit_test(every_accepted_path_is_the_path_of_its_key),
        cmocka_unit_test(directories_have_prefixes),
        cmocka_unit_test(the_prefix_of_each_directory_begins_the_key),
        cmocka_unit_test(whole_keys_are_one_name_or_its_parts),
        cmocka_unit_test(whole_keys_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
