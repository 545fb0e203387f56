"""What the Python parts of the tests of the mount begin with: see `run` in mount_lib.sh."""
import ctypes, errno, mmap, os, stat, sys
mnt = sys.argv[1]
os.chdir(mnt)
libc = ctypes.CDLL(None, use_errno=True)

def write(name, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    fd = os.open(name, flags, 0o666)
    os.write(fd, data)
    os.close(fd)

def read(name):
    with open(name, "rb") as file:
        return file.read()

def refused(code, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        assert error.errno == code, (errno.errorcode[error.errno], function, arguments)
    else:
        raise AssertionError(("not refused", function, arguments))

def rename2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")

def figure(name):
    for line in open(".ekv/stat"):
        if line.startswith(name + " "):
            return int(line.split()[1])

def xattrs(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}
NOREPLACE, EXCHANGE = 1, 2

def begin(name):
    """A transaction; the path of its directory."""
    path = ".ekv/tx/" + name
    os.mkdir(path)
    return path

def commit(path):
    os.rename(path, ".ekv/commit/" + os.path.basename(path))

def why():
    return read(".ekv/last_error").decode(errors="replace")

def fill(form, size):
    """Writes files until there is no space; how many."""
    count = 0
    try:
        while True:
            write(form % count, b"x" * size)
            count += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    if os.path.exists(form % count): os.unlink(form % count)
    return count
