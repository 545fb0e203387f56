/* ekvfs: mounts a store as a file system. */
#include <stdlib.h>

#include "mount.h"

int main(int count, char **words)
{
    struct options options;
    switch (options_parse(&options, count, words)) {
    case OPTIONS_DONE:
        return EXIT_SUCCESS;
    case OPTIONS_WRONG:
        return EXIT_FAILURE;
    default:
        return mount_serve(&options);
    }
}
