/* What a function of ekv can answer.
 *
 * Three worlds never mix. A mistake of the caller or of this code is an assertion or EKV_INVALID;
 * bytes on flash that cannot be right are EKV_CORRUPT; a failure that the flash driver reports is
 * EKV_IO. Zero is success, a positive value an expected answer, a negative one a failure.
 */
#ifndef EKV_ERROR_H
#define EKV_ERROR_H

#define EKV_MUST_CHECK __attribute__((warn_unused_result))

enum ekv_result {
    EKV_OK = 0,
    EKV_NOT_FOUND = 1, /* no such key, or a cursor ran past its end */
    EKV_CONFLICT = 2,  /* a key of the transaction was changed by another commit */

    EKV_IO = -1,        /* the flash driver reported a failure */
    EKV_CORRUPT = -2,   /* flash holds bytes that no power cut explains */
    EKV_FULL = -3,      /* no space, after all that can be reclaimed was reclaimed */
    EKV_PINNED = -4,    /* no space until a snapshot, cursor or transaction is closed */
    EKV_TOO_LARGE = -5, /* a key or value over its limit, or a buffer too small for the answer */
    EKV_READ_ONLY = -6, /* mounted read-only, or the store went read-only after a failure */
    EKV_NO_STORE = -7,  /* the flash holds no ekv store */
    EKV_VERSION = -8,   /* the store's format version is not one this code reads */
    EKV_GEOMETRY = -9,  /* the flash's geometry is unusable, or differs from the store's */
    EKV_MEMORY = -10,   /* the memory handed over is too small */
    EKV_INVALID = -11,  /* an argument is out of its range */
    EKV_BUSY = -12,     /* snapshots, cursors or transactions are still open */
};

#endif
