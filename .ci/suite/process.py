"""Processes of the suite: each in its own group, bounded in time, and gone when the suite is gone."""

import ctypes
import os
import signal
import subprocess
import threading

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command, log, stdin=subprocess.DEVNULL, stdout=None, env=None, cwd=None):
    """Starts a process in a group of its own. What it prints goes to the log unless stdout is a pipe."""
    return subprocess.Popen(
        [str(word) for word in command], stdin=stdin, stdout=stdout or log, stderr=log, cwd=cwd, env=env,
        start_new_session=True, preexec_fn=_die_with_parent, text=True, errors="replace")


def stop(process, grace_s=20, sig=signal.SIGTERM):
    """Ends a process that `start` gave, with what it started. Returns its exit status, None if it had to be killed."""
    status = process.poll()
    if status is None:
        process.send_signal(sig)
        try:
            status = process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return status


def run(command, log_path, limit_s, env=None, cwd=None, on_line=None):
    """Runs a command to its end or its time limit. Returns (exit status or None, its lines of standard output).

    `on_line(process, line)` sees each line as it comes and may write to the process.
    """
    lines = []
    with open(log_path, "a") as log:
        stdin = subprocess.PIPE if on_line else subprocess.DEVNULL
        process = start(command, log, stdin=stdin, stdout=subprocess.PIPE, env=env, cwd=cwd)
        overdue = threading.Event()

        def expire():
            overdue.set()
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

        timer = threading.Timer(limit_s, expire)
        timer.start()
        try:
            for line in process.stdout:
                line = line.rstrip("\n")
                log.write(line + "\n")
                log.flush()
                lines.append(line)
                if on_line:
                    on_line(process, line)
            process.wait()
        finally:
            timer.cancel()
            stop(process, grace_s=0)
        return (None if overdue.is_set() else process.returncode), lines
