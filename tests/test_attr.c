/* Records of attributes and sets of extended attributes: what is encoded is decoded, a set stays in
 * order whatever is done to it, and nothing else is taken for either. EKV_SEED repeats a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/attr.h"

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % limit);
}

static bool set(struct xattrs *xattrs, const char *name, const char *value)
{
    return xattrs_set(xattrs, name, strlen(name), value, strlen(value));
}

static void expect(const struct xattrs *xattrs, const char *name, const char *value)
{
    struct xattr xattr;
    bool there = xattrs_find(xattrs, name, strlen(name), &xattr);
    assert_int_equal(there, value != NULL);
    if (value) {
        assert_int_equal(xattr.value_size, strlen(value));
        assert_memory_equal(xattr.value, value, xattr.value_size);
    }
}

static void a_set_is_in_order_and_replaces_by_name(void **state)
{
    static const char packed[] = "\1\1\0ax\2\0\0ab\1\3\0bxyz";
    struct xattrs xattrs = {0};
    (void)state;
    assert_true(set(&xattrs, "b", "old"));
    assert_true(set(&xattrs, "ab", ""));
    assert_true(set(&xattrs, "a", "x"));
    assert_true(set(&xattrs, "b", "xyz"));
    assert_int_equal(xattrs.size, sizeof packed - 1);
    assert_memory_equal(xattrs.bytes, packed, xattrs.size);
    expect(&xattrs, "a", "x");
    expect(&xattrs, "ab", "");
    expect(&xattrs, "b", "xyz");
    expect(&xattrs, "c", NULL);
    assert_false(xattrs_remove(&xattrs, "abc", 3));
    assert_true(xattrs_remove(&xattrs, "ab", 2));
    expect(&xattrs, "ab", NULL);
    expect(&xattrs, "b", "xyz");
    assert_true(xattrs_remove(&xattrs, "b", 1));
    assert_true(xattrs_remove(&xattrs, "a", 1));
    assert_int_equal(xattrs.size, 0);
}

static void what_does_not_fit_changes_nothing(void **state)
{
    static const uint8_t value[XATTRS_MAX];
    static char name[XATTRS_NAME_MAX + 1];
    struct xattrs xattrs = {0}, before;
    (void)state;
    memset(name, 'n', sizeof name);
    assert_false(xattrs_set(&xattrs, "", 0, "x", 1));
    assert_false(xattrs_set(&xattrs, name, XATTRS_NAME_MAX + 1, "x", 1));
    assert_true(xattrs_set(&xattrs, name, XATTRS_NAME_MAX, "x", 1));
    assert_true(xattrs_remove(&xattrs, name, XATTRS_NAME_MAX));
    assert_false(xattrs_set(&xattrs, "a", 1, value, XATTRS_MAX - 3));
    assert_true(xattrs_set(&xattrs, "a", 1, value, XATTRS_MAX - 4));
    assert_int_equal(xattrs.size, XATTRS_MAX);
    before = xattrs;
    assert_false(set(&xattrs, "b", ""));
    assert_false(xattrs_set(&xattrs, "a", 1, value, XATTRS_MAX - 3));
    assert_false(xattrs_set(&xattrs, "a", 1, value, SIZE_MAX));
    assert_memory_equal(&xattrs, &before, sizeof before);
    assert_true(xattrs_set(&xattrs, "a", 1, value, XATTRS_MAX - 8));
    assert_true(set(&xattrs, "b", ""));
    assert_int_equal(xattrs.size, XATTRS_MAX);
}

/* A plain list of what a set should hold. */
struct model {
    char values[8][8];
    bool there[8];
};

static void random_changes_leave_what_a_model_says(void **state)
{
    static const char *const names[8] = {"a", "aa", "ab", "b", "ba", "c", "\xff", "zz"};
    struct xattrs xattrs = {0}, copy;
    struct model model = {0};
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint32_t which = random_below(8), size = random_below(7);
        if (random_below(3) == 0) {
            assert_int_equal(xattrs_remove(&xattrs, names[which], strlen(names[which])),
                             model.there[which]);
            model.there[which] = false;
        } else {
            for (uint32_t at = 0; at < size; at++)
                model.values[which][at] = (char)('a' + random_below(26));
            model.values[which][size] = 0;
            model.there[which] = true;
            assert_true(set(&xattrs, names[which], model.values[which]));
        }
        for (uint32_t at = 0; at < 8; at++)
            expect(&xattrs, names[at], model.there[at] ? model.values[at] : NULL);
        assert_true(xattrs_decode(xattrs.bytes, xattrs.size, &copy));
        assert_int_equal(copy.size, xattrs.size);
    }
}

static void other_bytes_are_no_set(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = {
        {"\1", 1},              /* half a header */
        {"\1\0\0", 3},          /* no name */
        {"\0\1\0x", 4},         /* an empty name */
        {"\1\2\0ax", 5},        /* half a value */
        {"\1\0\0a\1\0\0a", 8},  /* a name twice */
        {"\1\0\0b\1\0\0a", 8},  /* out of order */
        {"\2\0\0ab\1\0\0a", 9}, /* a name before one that it begins */
        {"\1\0\0a\0", 5},       /* bytes behind the last */
        {"\1\xff\xff"
         "a",
         4}, /* a value far beyond the end */
    };
    struct xattrs xattrs;
    (void)state;
    assert_true(xattrs_decode((const uint8_t *)"\1\0\0a\1\0\0b", 8, &xattrs));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (xattrs_decode((const uint8_t *)wrong[i].bytes, wrong[i].size, &xattrs))
            fail_msg("%zu was taken for a set", i);
        assert_int_equal(xattrs.size, 0);
    }
    static uint8_t long_name[3 + XATTRS_NAME_MAX + 1] = {XATTRS_NAME_MAX + 1};
    assert_false(xattrs_decode(long_name, sizeof long_name, &xattrs));
    long_name[0] = XATTRS_NAME_MAX;
    assert_true(xattrs_decode(long_name, sizeof long_name - 1, &xattrs));
}

static void expect_same_record(const struct attr_record *one, const struct attr_record *other)
{
    assert_int_equal(one->has_file, other->has_file);
    assert_int_equal(one->has_directory, other->has_directory);
    assert_int_equal(one->file.set, other->file.set);
    assert_int_equal(one->file.mtime_seconds, other->file.mtime_seconds);
    assert_int_equal(one->file.mode, other->file.mode);
    assert_int_equal(one->directory.uid, other->directory.uid);
    assert_int_equal(one->file_xattrs.size, other->file_xattrs.size);
    assert_int_equal(one->directory_xattrs.size, other->directory_xattrs.size);
    assert_memory_equal(one->file_xattrs.bytes, other->file_xattrs.bytes, one->file_xattrs.size);
    assert_memory_equal(one->directory_xattrs.bytes, other->directory_xattrs.bytes,
                        one->directory_xattrs.size);
}

static void a_record_is_read_as_it_was_written(void **state)
{
    static uint8_t bytes[ATTR_RECORD_MAX], value[XATTRS_MAX];
    static struct attr_record record, back;
    (void)state;
    record.has_file = record.has_directory = true;
    record.file = (struct attr){.set = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_MTIME | ATTR_SYMLINK,
                                .mode = 07777,
                                .uid = UINT32_MAX,
                                .gid = UINT32_MAX,
                                .mtime_seconds = INT64_MIN,
                                .mtime_nanoseconds = 999999999};
    record.directory = record.file;
    size_t size = attr_encode(&record, bytes);
    assert_true(size <= ATTR_PLAIN_MAX);
    assert_int_equal(bytes[0], 1); /* what older programs read */
    assert_true(attr_decode(bytes, size, &back));
    expect_same_record(&record, &back);
    assert_true(xattrs_set(&record.file_xattrs, "f", 1, value, XATTRS_MAX - 4));
    assert_true(xattrs_set(&record.directory_xattrs, "d", 1, value, XATTRS_MAX - 4));
    size = attr_encode(&record, bytes);
    assert_true(size <= ATTR_RECORD_MAX);
    assert_true(attr_decode(bytes, size, &back));
    expect_same_record(&record, &back);
    for (size_t cut = 0; cut < size; cut++) {
        assert_false(attr_decode(bytes, cut, &back));
        assert_false(back.has_file || back.has_directory || back.file_xattrs.size);
    }
    /* What is left of one half says nothing of the other. */
    record.has_file = false;
    size = attr_encode(&record, bytes);
    assert_true(attr_decode(bytes, size, &back));
    assert_false(back.has_file);
    assert_int_equal(back.file_xattrs.size, 0);
    assert_int_equal(back.directory_xattrs.size, XATTRS_MAX);
    record.has_directory = false;
    assert_int_equal(attr_encode(&record, bytes), 0);
    /* A file that has nothing but an extended attribute. */
    attr_clear(&record);
    record.has_file = true;
    assert_int_equal(attr_encode(&record, bytes), 0);
    assert_true(set(&record.file_xattrs, "a", "1"));
    size = attr_encode(&record, bytes);
    assert_true(attr_decode(bytes, size, &back));
    expect_same_record(&record, &back);
}

static void other_bytes_are_no_record(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } wrong[] = {
        {"\1\4\0", 3},          /* version 1 knows no extended attributes */
        {"\2\1\0", 3},          /* version 2 is for nothing else */
        {"\2\4\5\1\1\0ax", 7},  /* those of a file without the file */
        {"\2\x11\0\0", 4},      /* a section that nobody knows */
        {"\2\5\0\0", 4},        /* an empty set */
        {"\2\5\0\5\1\1\0a", 8}, /* half a set */
        {"\3\1\0", 3},          /* a later version */
    };
    static struct attr_record record;
    (void)state;
    assert_true(attr_decode((const uint8_t *)"\2\5\0\5\1\1\0ax", 9, &record));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (attr_decode((const uint8_t *)wrong[i].bytes, wrong[i].size, &record))
            fail_msg("%zu was taken for a record", i);
    for (int i = 0; i < 200000; i++) { /* sanitizers look on */
        uint8_t bytes[24] = {(uint8_t)(1 + random_below(2)), (uint8_t)random_below(16)};
        for (size_t at = 2; at < sizeof bytes; at++)
            bytes[at] = (uint8_t)(random_below(4) ? random_below(8) : random_below(256));
        if (!attr_decode(bytes, random_below(sizeof bytes), &record))
            assert_false(record.has_file || record.has_directory);
    }
}

int main(void)
{
    const char *seed = getenv("EKV_SEED");
    random_state = seed ? strtoull(seed, NULL, 0) : 1;
    printf("EKV_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_is_in_order_and_replaces_by_name),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
        cmocka_unit_test(random_changes_leave_what_a_model_says),
        cmocka_unit_test(other_bytes_are_no_set),
        cmocka_unit_test(a_record_is_read_as_it_was_written),
        cmocka_unit_test(other_bytes_are_no_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
