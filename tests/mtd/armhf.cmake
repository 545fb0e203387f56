# For 32-bit Arm with Debian's cross-compiler. The libraries are those of Debian's armhf packages,
# unpacked into EKV_SYSROOT.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-linux-gnueabihf-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE arm-linux-gnueabihf)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EKV_SYSROOT)
set(CMAKE_FIND_ROOT_PATH ${EKV_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${EKV_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${EKV_SYSROOT}/usr/lib/arm-linux-gnueabihf/pkgconfig)
