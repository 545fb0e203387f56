/* Flash in an image file: what is refused and with which words, that programs behave like NOR,
 * that locks keep a second writer out, and that a file lost under the mapping is an error.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/image.h"

static char folder[] = "/tmp/test_image.XXXXXX";
static char path[64];
static struct image image;

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s/flash.img", folder);
    unlink(path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static void make_file(size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++)
        fputc(0xff, file);
    assert_int_equal(fclose(file), 0);
}

static void assert_says(const struct image *refused, const char *words)
{
    if (!strstr(refused->error, words))
        fail_msg("expected '%s' in '%s'", words, refused->error);
    assert_null(strchr(refused->error, '\n'));
}

static int program(uint32_t address, const void *data, uint32_t size)
{
    return image.flash.driver->program(&image, address, data, size);
}

static void what_is_programmed_is_in_the_file(void **state)
{
    (void)state;
    uint8_t buffer[6];
    make_file(8192);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(ekv_flash_size(&image.flash), 8192);
    assert_int_equal(program(1000, "abcd", 4), 0);
    assert_memory_equal(image.flash.map + 1000, "abcd", 4);
    assert_int_equal(image.flash.driver->read(&image, 999, buffer, 6), 0);
    assert_memory_equal(buffer,
                        "\xff"
                        "abcd\xff",
                        6);
    image.flash.geometry = (struct ekv_geometry){1024, 8, 1, false};
    assert_int_equal(image.flash.driver->erase(&image, 0), 0);
    assert_int_equal(image.flash.map[1000], 0xff);
    assert_int_equal(program(5000, "efgh", 4), 0);
    image_close(&image);

    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, NULL), EKV_OK);
    assert_memory_equal(image.flash.map + 5000, "efgh", 4);
    assert_int_equal(image.flash.map[1000], 0xff);
    assert_int_not_equal(program(0, "a", 1), 0);
    assert_int_not_equal(image.flash.driver->erase(&image, 0), 0);
    image_close(&image);
}

static void a_program_only_clears_bits(void **state)
{
    (void)state;
    make_file(8192);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(program(0, "\x0f", 1), 0);
    assert_int_equal(program(0, "\xf3", 1), 0);
    assert_int_equal(image.flash.map[0], 0x03);
    image_close(&image);
}

static void large_programs_and_erases_are_whole(void **state)
{
    (void)state;
    static uint8_t data[20000];
    make_file(131072);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(program(60000, data, sizeof data), 0);
    assert_memory_equal(image.flash.map + 60000, data, sizeof data);
    image.flash.geometry = (struct ekv_geometry){65536, 2, 1, false};
    assert_int_equal(image.flash.driver->erase(&image, 0), 0);
    for (size_t i = 60000; i < 65536; i++)
        assert_int_equal(image.flash.map[i], 0xff);
    assert_memory_equal(image.flash.map + 65536, data + 5536, sizeof data - 5536);
    image_close(&image);
}

static void nothing_outside_of_the_image_is_touched(void **state)
{
    (void)state;
    make_file(8192);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_not_equal(program(8190, "abcd", 4), 0);
    assert_int_not_equal(program(0xfffffffe, "abcd", 4), 0);
    assert_int_not_equal(image.flash.driver->erase(&image, 16), 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 8192);
    image_close(&image);
}

static void a_window_is_an_image_of_its_own(void **state)
{
    (void)state;
    struct image_window window = {5120, 8192, false};
    make_file(20000);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, &window), EKV_OK);
    assert_int_equal(ekv_flash_size(&image.flash), 8192);
    assert_int_equal(program(0, "abcd", 4), 0);
    image_close(&image);

    window = (struct image_window){0, 0, true};
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, &window), EKV_OK);
    assert_int_equal(ekv_flash_size(&image.flash), 19968);
    assert_memory_equal(image.flash.map + 5120, "abcd", 4);
    image_close(&image);

    window = (struct image_window){5120, 0, false};
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, &window), EKV_INVALID);
    assert_says(&image, "has 14880 bytes, no multiple of 512");
    window = (struct image_window){16384, 8192, false};
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, &window), EKV_INVALID);
    assert_says(&image, "do not reach to 24576");
    window = (struct image_window){UINT64_MAX, 8192, false};
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, &window), EKV_INVALID);
}

static void what_is_no_image_is_refused_in_one_clear_sentence(void **state)
{
    (void)state;
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_IO);
    assert_says(&image, "flash.img does not exist");
    assert_int_equal(image_open(&image, folder, IMAGE_READ_WRITE, NULL), EKV_INVALID);
    assert_says(&image, "is a directory, not an image file");
    assert_int_equal(image_open(&image, folder, IMAGE_READ_ONLY, NULL), EKV_INVALID);
    assert_says(&image, "is a directory, not an image file");
    assert_int_equal(image_open(&image, "/dev/null", IMAGE_READ_WRITE, NULL), EKV_INVALID);
    assert_says(&image, "/dev/null is a device, not an image file");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, NULL), EKV_INVALID);
    assert_says(&image, "is a pipe, not an image file");
    unlink(path);

    make_file(512);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_INVALID);
    assert_says(&image, "too small for an image: 512 bytes, at least 4096");
    make_file(0);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_INVALID);
    make_file(8191);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_INVALID);
    assert_says(&image, "8191 bytes, no multiple of 512");
    assert_int_equal(truncate(path, (off_t)1 << 33), 0);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_INVALID);
    assert_says(&image, "too large");

    make_file(8192 + 512);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    image.flash.geometry = (struct ekv_geometry){1024, 8, 1, false};
    assert_int_equal(image_check_sectors(&image), EKV_GEOMETRY);
    assert_says(&image, "8704 bytes, no multiple of its sectors of 1024");
    image_close(&image);
}

static void a_file_without_permission_is_refused(void **state)
{
    (void)state;
    int status = 0;
    make_file(8192);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) { /* root may open everything */
        if (geteuid() == 0 && setuid(65534) != 0)
            _exit(77);
        int error = image_open(&image, path, IMAGE_READ_WRITE, NULL);
        if (error != EKV_IO || !strstr(image.error, "cannot be opened for writing (try read-only)"))
            _exit(1);
        _exit(image_open(&image, path, IMAGE_READ_ONLY, NULL) == EKV_OK ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

static void a_second_writer_is_refused_and_told_who_is_first(void **state)
{
    (void)state;
    int go[2], ready[2], status = 0;
    char byte = 0, expected[64];
    make_file(8192);
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    snprintf(expected, sizeof expected, "in use by test_image (process %d)", (int)getpid());
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct image other;
        close(image.file); /* the lock lives as long as anything that was inherited with it */
        munmap(image.mapping.base, image.mapping.size);
        if (image_open(&other, path, IMAGE_READ_WRITE, NULL) != EKV_BUSY ||
            !strstr(other.error, expected) || !strstr(other.error, "read-only")) {
            fprintf(stderr, "expected '%s' in '%s'\n", expected, other.error);
            _exit(1);
        }
        if (image_open(&other, path, IMAGE_READ_ONLY, NULL) != EKV_BUSY)
            _exit(2);
        if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1)
            _exit(3);
        _exit(image_open(&other, path, IMAGE_READ_WRITE, NULL) == EKV_OK ? 0 : 4);
    }
    close(ready[1]);
    (void)!read(ready[0], &byte, 1); /* it was refused twice now, or has ended */
    image_close(&image);
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(go[0]);
    close(go[1]);
}

static void readers_share_and_keep_writers_out(void **state)
{
    (void)state;
    struct image second, third;
    make_file(8192);
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, NULL), EKV_OK);
    assert_int_equal(image_open(&second, path, IMAGE_READ_ONLY, NULL), EKV_OK);
    assert_int_equal(image_open(&third, path, IMAGE_READ_WRITE, NULL), EKV_BUSY);
    image_close(&second);
    image_close(&image);
    assert_int_equal(image_open(&third, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    image_close(&third);
}

static void a_view_shows_one_moment_of_an_image_in_use(void **state)
{
    (void)state;
    struct image view;
    make_file(8192);
    assert_int_equal(image_open(&view, path, IMAGE_VIEW, NULL), EKV_OK);
    assert_false(view.copied);
    image_close(&view);

    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(program(0, "abcd", 4), 0);
    assert_int_equal(image_open(&view, path, IMAGE_VIEW, NULL), EKV_OK);
    assert_true(view.copied);
    assert_int_equal(program(4, "efgh", 4), 0);
    assert_memory_equal(view.flash.map, "abcd\xff\xff\xff\xff", 8);
    assert_int_not_equal(view.flash.driver->program(&view, 8, "a", 1), 0);
    assert_int_equal(image_check_file(&view), EKV_OK);
    image_close(&view);
    image_close(&image);
}

/* But the first one: who wrote before may have been killed. */
static void a_sync_without_writes_costs_nothing(void **state)
{
    (void)state;
    make_file(8192);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(image.flash.driver->sync(&image, false), 0);
    assert_int_equal(image.sync_count, 1);
    assert_int_equal(image.flash.driver->sync(&image, false), 0);
    assert_int_equal(image.sync_count, 1);
    assert_int_equal(program(0, "a", 1), 0);
    assert_int_equal(image.flash.driver->sync(&image, true), 0);
    assert_int_equal(image.flash.driver->sync(&image, false), 0);
    assert_int_equal(image.sync_count, 2);
    image_close(&image);
}

static void a_file_truncated_under_the_image_fails_and_does_not_kill(void **state)
{
    (void)state;
    make_file(65536);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(image_check_file(&image), EKV_OK);
    assert_int_equal(program(40000, "abcd", 4), 0);
    assert_int_equal(truncate(path, 8192), 0);
    uint32_t sum = 0;
    for (size_t i = 0; i < 65536; i++)
        sum += image.flash.map[i];
    assert_true(sum > 0);
    assert_int_equal(image.flash.map[40000], 0);
    assert_int_equal(image.flash.map[8191], 0xff);
    assert_true(image.failed);
    assert_int_not_equal(program(100, "a", 1), 0);
    assert_int_not_equal(image.flash.driver->sync(&image, false), 0);
    assert_int_equal(image_check_file(&image), EKV_IO);
    assert_says(&image, "was truncated while in use");
    image_close(&image);

    make_file(65536);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(truncate(path, 8192), 0);
    assert_int_not_equal(program(40000, "a", 1), 0); /* also when nobody read behind the end */
    assert_says(&image, "was truncated while in use");
    assert_int_not_equal(program(100, "a", 1), 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 8192);
    image_close(&image);

    make_file(65536);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(truncate(path, 8192), 0);
    (void)!program(100, "a", 1); /* where the file still is: told by the sync at the latest */
    assert_int_not_equal(image.flash.driver->sync(&image, false), 0);
    assert_says(&image, "was truncated while in use");
    image_close(&image);
}

/* Of the page that the file ends in, the process keeps what the file has. */
static void what_is_left_of_a_truncated_file_is_still_read(void **state)
{
    (void)state;
    struct image_window window = {.offset = 512, .size = 65536 - 512};
    make_file(65536);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, &window), EKV_OK);
    assert_int_equal(program(100, "abcd", 4), 0);
    assert_int_equal(truncate(path, 1024), 0);
    assert_int_not_equal(program(20000, "efgh", 4), 0);
    assert_memory_equal(image.flash.map + 100, "abcd", 4);
    image_close(&image);
}

/* In a small file system of its own, if this machine lets a test mount one. */
static void a_full_disk_is_an_error_for_good(void **state)
{
    (void)state;
    int status = 0;
    char disk[sizeof path + 8], file[sizeof disk + 8];
    snprintf(disk, sizeof disk, "%s.disk", path);
    snprintf(file, sizeof file, "%s/image", disk);
    assert_int_equal(mkdir(disk, 0755), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", disk, "tmpfs", 0, "size=64k") != 0)
            _exit(77);
        int sparse = open(file, O_RDWR | O_CREAT, 0644);
        if (sparse < 0 || ftruncate(sparse, 1 << 20) != 0 ||
            image_open(&image, file, IMAGE_READ_WRITE, NULL) != EKV_OK)
            _exit(1);
        image.flash.geometry = (struct ekv_geometry){4096, 256, 1, false};
        uint32_t erased = 0;
        while (erased < 256 && image.flash.driver->erase(&image, erased) == 0)
            erased++;
        if (erased < 4 || erased > 16 || !strstr(image.error, "disk is full"))
            _exit(2);
        if (program(0, "a", 1) == 0 || image.flash.driver->sync(&image, false) == 0)
            _exit(3);
        _exit(image.flash.map[4095] == 0xff && image.flash.map[erased * 4096] == 0xff ? 0 : 4);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(rmdir(disk), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

/* Erases that follow each other map what comes next: up to the end of the image, and of the file.
 */
static void sectors_erased_in_a_row_are_those_alone(void **state)
{
    enum { SECTOR = 4096, SECTORS = 300 };
    static uint8_t expected[SECTORS * SECTOR], stamp[4] = {1, 2, 3, 4};
    struct image_window window = {.offset = 1536, .size = sizeof expected};
    (void)state;
    make_file(sizeof expected + 3 * SECTOR);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, &window), EKV_OK);
    image.flash.geometry = (struct ekv_geometry){SECTOR, SECTORS, 1, false};
    memset(expected, 0x17, sizeof expected);
    assert_int_equal(program(0, expected, sizeof expected), 0);
    for (uint32_t i = 0; i < SECTORS; i += i == 100 ? 80 : 1) {
        assert_int_equal(image.flash.driver->erase(&image, i), 0);
        memset(expected + i * SECTOR, 0xff, SECTOR);
        assert_int_equal(program(i * SECTOR, stamp, sizeof stamp), 0);
        memcpy(expected + i * SECTOR, stamp, sizeof stamp);
        assert_memory_equal(image.flash.map, expected, sizeof expected);
    }
    assert_int_equal(image.flash.driver->sync(&image, false), 0);
    image_close(&image);
    assert_int_equal(image_open(&image, path, IMAGE_READ_ONLY, NULL), EKV_OK);
    assert_memory_equal(image.flash.map + 1536, expected, sizeof expected);
    for (size_t i = 0; i < 3 * SECTOR; i++)
        assert_int_equal(image.flash.map[i < 1536 ? i : sizeof expected + i], 0xff);
    image_close(&image);

    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, &window), EKV_OK);
    image.flash.geometry = (struct ekv_geometry){SECTOR, SECTORS, 1, false};
    assert_int_equal(truncate(path, 200 * SECTOR), 0);
    uint32_t erased = 0;
    while (image.flash.driver->erase(&image, erased) == 0)
        erased++;
    assert_in_range(erased, 150, 200);
    assert_says(&image, "was truncated while in use");
    image_close(&image);
}

/* As where a file system cannot map files to be written. */
static void a_file_is_written_without_a_mapping_too(void **state)
{
    static const struct image_window window = {.offset = 5000 / 512 * 512, .size = 16384};
    static uint8_t data[5000], expected[16384];
    (void)state;
    memset(data, 0x5a, sizeof data);
    for (int mapped = 0; mapped < 2; mapped++) {
        make_file(65536);
        assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, &window), EKV_OK);
        assert_true(image.mapping.writable);
        image.mapping.writable = mapped;
        memset(expected, 0xff, sizeof expected);
        assert_int_equal(program(4099, data, sizeof data), 0);
        assert_int_equal(program(4099, "\xf7", 1), 0);
        memset(expected + 4099, 0x5a, sizeof data);
        expected[4099] = 0x52;
        assert_memory_equal(image.flash.map, expected, sizeof expected);
        image.flash.geometry = (struct ekv_geometry){8192, 2, 1, false};
        assert_int_equal(image.flash.driver->erase(&image, 0), 0);
        memset(expected, 0xff, 8192);
        assert_memory_equal(image.flash.map, expected, sizeof expected);
        assert_int_equal(image.flash.driver->sync(&image, false), 0);
        image_close(&image);
    }
}

static void a_signal_for_other_memory_still_kills(void **state)
{
    (void)state;
    int status = 0;
    make_file(65536);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGBUS, SIG_DFL);
        if (image_open(&image, path, IMAGE_READ_WRITE, NULL) != EKV_OK)
            _exit(1);
        uint8_t *other = mmap(NULL, 65536, PROT_READ, MAP_SHARED, image.file, 0);
        if (ftruncate(image.file, 0) != 0)
            _exit(2);
        _exit(other[40000] == 0 ? 3 : 4);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

static void a_deleted_file_is_told(void **state)
{
    (void)state;
    make_file(8192);
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(program(0, "a", 1), 0);
    assert_int_equal(image_check_file(&image), EKV_IO);
    assert_says(&image, "was deleted");
    image_close(&image);
}

static void an_image_is_created_once(void **state)
{
    (void)state;
    assert_int_equal(image_create(&image, path, 1 << 20), EKV_OK);
    assert_int_equal(ekv_flash_size(&image.flash), 1 << 20);
    image.flash.geometry = (struct ekv_geometry){4096, 256, 1, false};
    assert_int_equal(image.flash.driver->erase(&image, 255), 0);
    assert_int_equal(program((1 << 20) - 4, "abcd", 4), 0);
    image_close(&image);

    assert_int_equal(image_create(&image, path, 1 << 20), EKV_INVALID);
    assert_says(&image, "exists already");
    assert_int_equal(image_open(&image, path, IMAGE_READ_WRITE, NULL), EKV_OK);
    assert_memory_equal(image.flash.map + (1 << 20) - 4, "abcd", 4);
    image_close(&image);

    unlink(path);
    assert_int_equal(image_create(&image, path, 4095), EKV_INVALID);
    assert_says(&image, "4095 bytes is no size for an image");
    assert_int_equal(image_create(&image, path, UINT64_C(1) << 32), EKV_INVALID);
    assert_int_equal(image_create(&image, "/no/such/place.img", 8192), EKV_IO);
    assert_says(&image, "/no/such/place.img cannot be created: No such file or directory");
    assert_int_not_equal(access(path, F_OK), 0);
}

static void a_full_disk_leaves_no_file(void **state)
{
    (void)state;
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) { /* the largest file it may write stands in for the disk */
        struct rlimit limit = {100000, 100000};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(1);
        int error = image_create(&image, path, 1 << 20);
        _exit(error == EKV_FULL && strstr(image.error, "cannot be given 1048576 bytes") ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void a_failed_write_is_an_error_for_good(void **state)
{
    (void)state;
    int status = 0;
    make_file(65536);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {30000, 30000};
        if (image_open(&image, path, IMAGE_READ_WRITE, NULL) != EKV_OK)
            _exit(1);
        image.mapping.writable = false; /* the limit is one of pwrite's */
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(2);
        if (program(0, "a", 1) != 0 || program(40000, "a", 1) == 0 || !image.failed)
            _exit(3);
        if (!strstr(image.error, "cannot be written: File too large"))
            _exit(4);
        _exit(program(1, "b", 1) != 0 && image.flash.driver->sync(&image, false) != 0 ? 0 : 5);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_programmed_is_in_the_file),
        TEST(a_program_only_clears_bits),
        TEST(large_programs_and_erases_are_whole),
        TEST(nothing_outside_of_the_image_is_touched),
        TEST(a_window_is_an_image_of_its_own),
        TEST(what_is_no_image_is_refused_in_one_clear_sentence),
        TEST(a_file_without_permission_is_refused),
        TEST(a_second_writer_is_refused_and_told_who_is_first),
        TEST(readers_share_and_keep_writers_out),
        TEST(a_view_shows_one_moment_of_an_image_in_use),
        TEST(a_sync_without_writes_costs_nothing),
        TEST(a_file_truncated_under_the_image_fails_and_does_not_kill),
        TEST(what_is_left_of_a_truncated_file_is_still_read),
        TEST(a_full_disk_is_an_error_for_good),
        TEST(sectors_erased_in_a_row_are_those_alone),
        TEST(a_file_is_written_without_a_mapping_too),
        TEST(a_signal_for_other_memory_still_kills),
        TEST(a_deleted_file_is_told),
        TEST(an_image_is_created_once),
        TEST(a_full_disk_leaves_no_file),
        TEST(a_failed_write_is_an_error_for_good),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
