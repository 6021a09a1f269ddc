"""The system calls that a confined process may not make, as a seccomp filter. Standard library alone.

The filter is a list of what is refused, with EPERM: what reaches other processes, the network, the kernel's settings or
files' owners and modes, and what would lift a limit. All else is allowed; Landlock holds the files. It is put up
before any thread exists, and no process can take it down.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# Numbers on x86_64 and on aarch64; one number stands for both.
_REFUSED: dict[str, int | tuple[int | None, int | None]] = {
    # the network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # other programs and processes
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "setsid": (112, 157),
    "setpgid": (109, 154), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": 440, "process_mrelease": 448, "kcmp": (312, 272), "pidfd_open": 434, "pidfd_getfd": 438,
    "pidfd_send_signal": 424, "tkill": (200, 130), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # limits, and a share of the processor
    "setrlimit": (160, 164), "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    # memory and queues that outlive a process, or that no limit counts
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": 447,
    # what Landlock does not know of files: modes, owners, times, attributes
    "truncate": (76, 45), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": 452,
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "setxattrat": 463, "removexattrat": 466, "file_setattr": 469, "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    # ways into the kernel that go round a filter or were holes in it
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218),
    # what root alone may do
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
    "open_tree_attr": 467, "unshare": (272, 97), "setns": (308, 268), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": 443, "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "vhangup": (153, 58), "personality": (135, 92),
}  # fmt: skip
_CLONE, _CLONE3, _PRLIMIT, _PRCTL = (56, 220), (435, 435), (302, 261), (157, 167)
_TO_PROCESS = {"kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, and the kernel's AUDIT_ARCH

_CLONE_THREAD, _PR_SET_PDEATHSIG = 0x10000, 1
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are little-endian, 8 bytes each
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2

Instruction = tuple[int, int, int, int]  # code, jump where true, jump where false, value


def available() -> bool:
    """Whether this kernel takes filters, on a machine whose calls are known here."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES or struct.calcsize("P") != 8:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0) != 0 and ctypes.get_errno() == errno.EFAULT


def put_up() -> None:
    """Hold this process to the filter from here on. Raises OSError where the kernel does not take it."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(*_MACHINES[platform.machine()]))
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "seccomp: the kernel refuses the filter")


def _program(column: int, arch: int) -> list[Instruction]:
    """Return the filter: a check of the machine, then a few instructions for each call that is looked at."""
    allow, refuse = _end(_ALLOW), _end(_ERRNO | errno.EPERM)
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), refuse,
        (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, 0x40000000), refuse,  # x32's numbers
    ]  # fmt: skip

    def case(call: int | tuple[int | None, int | None], *then: Instruction) -> None:
        number = call if isinstance(call, int) else call[column]
        if number is not None:
            program.extend([(_EQUAL, 0, len(then), number), *then])

    for call in _REFUSED.values():
        case(call, refuse)
    case(_CLONE3, _end(_ERRNO | errno.ENOSYS))  # its flags lie in memory; glibc falls back to clone
    case(_CLONE, _argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse)
    for to_process in _TO_PROCESS.values():
        case(to_process, _argument(0), (_EQUAL, 0, 1, os.getpid()), allow, refuse)
    none = (_EQUAL, 0, 1, 0)
    case(_PRLIMIT, _argument(2), (_EQUAL, 0, 3, 0), _argument(2, high=True), none, allow, refuse)  # no new limit
    case(_PRCTL, _argument(0), (_EQUAL, 0, 1, _PR_SET_PDEATHSIG), refuse, allow)
    return [*program, allow]


def _argument(index: int, *, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4 * high)


def _end(result: int) -> Instruction:
    return (_RETURN, 0, 0, result)
