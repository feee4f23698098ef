#!/usr/bin/env python3
# test-ssh.py: worker processes that ssh starts, by a server of its own
#
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: test-ssh.py PROGRAM [OPTION…]
#
# Makes keys and configurations in a temporary folder, starts sshd on the loopback address, as who
# runs this, and runs PROGRAM, which prints TAP.

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TIME_LIMIT = 20
ATTEMPTS = 5

SERVER = '''
ListenAddress 127.0.0.1
Port {port}
HostKey {dir}/host-key
AuthorizedKeysFile {dir}/user-key.pub
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PrintMotd no
MaxStartups 100
LogLevel VERBOSE
'''

CLIENT = '''
Host loopback nobody
HostName 127.0.0.1
User {user}
IdentityFile {dir}/user-key
IdentitiesOnly yes
UserKnownHostsFile {dir}/known-hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
ConnectTimeout {limit}
LogLevel ERROR
Host loopback
Port {port}
Host nobody
Port 1
'''


def skip(reason):
    print(f'1..0 # SKIP {reason}')
    sys.exit(0)


def find(program):
    path = shutil.which(program, path=f'{os.environ["PATH"]}:/usr/sbin:/usr/local/sbin')
    if path is None:
        skip(f'{program} is not installed')
    return path


def get_free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def write(path, text):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def make_key(keygen, path):
    subprocess.run([keygen, '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', path], check=True)


def greets(port):
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=1) as connection:
            return connection.recv(4) == b'SSH-'
    except OSError:
        return False


def start(sshd, folder, user):
    """The server, or None. Somebody else may take the port first."""
    port = get_free_port()
    write(f'{folder}/server', SERVER.format(dir=folder, port=port))
    write(f'{folder}/client', CLIENT.format(dir=folder, port=port, user=user, limit=TIME_LIMIT))
    write(f'{folder}/known-hosts', f'[127.0.0.1]:{port} ' + read(f'{folder}/host-key.pub'))

    server = subprocess.Popen([sshd, '-D', '-f', f'{folder}/server', '-E', f'{folder}/log'],
                              stdin=subprocess.DEVNULL)
    end = time.monotonic() + TIME_LIMIT
    while server.poll() is None and time.monotonic() < end:
        if greets(port):
            return server
        time.sleep(0.02)
    server.kill()
    server.wait()
    return None


def main():
    sshd, keygen, ssh = find('sshd'), find('ssh-keygen'), find('ssh')
    user = pwd.getpwuid(os.getuid()).pw_name
    server = None

    with tempfile.TemporaryDirectory(prefix='qtask-ssh-') as folder:
        make_key(keygen, f'{folder}/host-key')
        make_key(keygen, f'{folder}/user-key')
        try:
            # For root it insists on this one, which stays: another one may use it by now.
            if os.getuid() == 0:
                os.makedirs('/run/sshd', mode=0o755, exist_ok=True)

            for _ in range(ATTEMPTS):
                server = start(sshd, folder, user)
                if server is not None:
                    break
            log = read(f'{folder}/log') if os.path.exists(f'{folder}/log') else ''
            if server is None:
                skip('sshd does not start: ' + ' '.join(log.split('\n')[-3:]))

            # Some accounts may not log in, or their shells say something.
            login = subprocess.run([ssh, '-T', '-F', f'{folder}/client', 'loopback', 'echo', 'in'],
                                   stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                   timeout=TIME_LIMIT, check=False)
            if login.stdout != 'in\n':
                skip(f'{user} cannot log in here: {login.stderr.strip()} ' +
                     ' '.join(read(f'{folder}/log').splitlines()[-3:]))

            status = subprocess.run([*sys.argv[1:], '--tap', '-k', f'{folder}/client'], check=False).returncode
            if status != 0:
                for line in read(f'{folder}/log').splitlines()[-20:]:
                    print(f'# sshd: {line}')
            return status
        finally:
            if server is not None:
                server.terminate()
                server.wait()


if __name__ == '__main__':
    sys.exit(main())
