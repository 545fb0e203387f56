/* In place of mtd.c where libmtd is missing or not wanted (-DEKV_MTD=OFF): a device is refused. */
#include "mtd.h"

#include <stdio.h>

int mtd_open(struct mtd **mtd, const char *path, bool write, bool *busy, uint64_t offset,
             uint64_t size, struct ekv_flash *flash, struct ekv_geometry *native, char *error,
             size_t error_size)
{
    (void)mtd, (void)write, (void)busy, (void)offset, (void)size, (void)flash, (void)native;
    snprintf(error, error_size, "%s is an MTD device, and this program was built without libmtd",
             path);
    return EKV_INVALID;
}

int mtd_file(const struct mtd *mtd)
{
    (void)mtd;
    return -1;
}

void mtd_close(struct mtd *mtd)
{
    (void)mtd;
}
