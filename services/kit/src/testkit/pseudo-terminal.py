# Runs a program in a pseudo-terminal of its own: our stdin is its keyboard, our stdout what it shows.
# Usage: pseudo-terminal.py COLUMNS ROWS PROGRAM ARG...
# Lines on descriptor 3 change it: `resize COLUMNS ROWS`, `signal NUMBER`. Once it has ended, descriptor 4 is told
# how, and how it left the terminal: `CODE raw` or `CODE cooked`.
import fcntl, os, pty, select, struct, sys, termios

KEYS, SHOWN, ORDERS, TOLD = 0, 1, 3, 4


def resize(master, columns, rows):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main():
    columns, rows, *program = sys.argv[1:]
    master, slave = pty.openpty()
    resize(master, int(columns), int(rows))
    pid = os.fork()
    if pid == 0:
        os.close(ORDERS)
        os.close(TOLD)
        os.close(master)
        os.login_tty(slave) if hasattr(os, "login_tty") else login(slave)
        os.execvp(program[0], program)
    orders = b""
    open_ends = [KEYS, ORDERS, master]
    status = None
    while True:
        readable = select.select(open_ends, [], [], 0.05)[0]
        if master in readable:
            shown = os.read(master, 65536)
            while shown:
                shown = shown[os.write(SHOWN, shown) :]
        elif status is not None:
            break
        if KEYS in readable:
            keys = os.read(KEYS, 4096)
            os.write(master, keys)
            if not keys:
                open_ends.remove(KEYS)
        if ORDERS in readable:
            got = os.read(ORDERS, 4096)
            if not got:
                open_ends.remove(ORDERS)
            *lines, orders = (orders + got).split(b"\n")
            for line in lines:
                name, *numbers = line.split()
                if name == b"resize":
                    resize(master, int(numbers[0]), int(numbers[1]))
                else:
                    os.kill(pid, int(numbers[0]))
        if status is None:
            ended, how = os.waitpid(pid, os.WNOHANG)
            status = how if ended else None
    # Our own end of the slave has kept the terminal, so that it can still be asked.
    is_cooked = termios.tcgetattr(slave)[3] & termios.ICANON
    os.write(TOLD, f"{os.waitstatus_to_exitcode(status)} {'cooked' if is_cooked else 'raw'}".encode())


def login(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(slave, descriptor)


main()
