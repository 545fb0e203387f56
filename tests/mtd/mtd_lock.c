/* Locks a part of an MTD device, or says whether it is locked, for guests, whose busybox has no
 * such command: mtd_lock lock|state DEVICE OFFSET SIZE. */
#include <fcntl.h>
#include <mtd/mtd-user.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    struct erase_info_user part = {(unsigned)strtoul(argv[3], NULL, 0),
                                   (unsigned)strtoul(argv[4], NULL, 0)};
    int lock = strcmp(argv[1], "lock") == 0;
    int file = open(argv[2], lock ? O_RDWR : O_RDONLY);
    int result = file < 0 ? -1 : ioctl(file, lock ? MEMLOCK : MEMISLOCKED, &part);
    if (result < 0) {
        perror(argv[2]);
        return 1;
    }
    if (!lock)
        puts(result == 1 ? "locked" : "unlocked");
    return 0;
}
