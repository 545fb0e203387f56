/* Runs a fuzz target over files, without libFuzzer: so what the fuzzers once found is tried again
 * by every build.
 *
 *   corpus_mount FILE-OR-DIRECTORY ...
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

__attribute__((weak)) int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE_MAX_INPUT = 65536 };

static unsigned inputs;

static void fail(const char *path)
{
    fprintf(stderr, "corpus: %s: %s\n", path, strerror(errno));
    exit(2);
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    uint8_t *bytes = malloc(SIZE_MAX_INPUT);
    if (!bytes)
        fail(path);
    size_t size = fread(bytes, 1, SIZE_MAX_INPUT, file);
    if (ferror(file))
        fail(path);
    fclose(file);
    /* Told before, so that the last line names the input that a crash is due to. */
    printf("%s\n", path);
    fflush(stdout);
    uint8_t *exact = malloc(size ? size : 1); /* for the address sanitizer */
    if (!exact)
        fail(path);
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(bytes);
    inputs++;
}

static void run(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        fail(path);
    if (!S_ISDIR(status.st_mode)) {
        run_file(path);
        return;
    }
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0)
        fail(path);
    for (int i = 0; i < count; i++) {
        if (names[i]->d_name[0] != '.') {
            char *inside = malloc(strlen(path) + strlen(names[i]->d_name) + 2);
            if (!inside)
                fail(path);
            sprintf(inside, "%s/%s", path, names[i]->d_name);
            run_file(inside);
            free(inside);
        }
        free(names[i]);
    }
    free(names);
}

int main(int count, char **arguments)
{
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&count, &arguments);
    for (int i = 1; i < count; i++)
        run(arguments[i]);
    if (inputs == 0) {
        fprintf(stderr, "corpus: no inputs\n");
        return 2;
    }
    printf("%u inputs\n", inputs);
    return 0;
}
