"""What can be chosen about the laptop stack, and whether the machine allows it.

Each option is a field of `Options`, an argument (``--serving-port``) and a variable (``FUSIONTRADE_SERVING_PORT``;
the market data ones keep their own names). An argument wins over a variable, a variable over the default. Ports are
checked before anything starts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusiontrade.errors import InvalidInput
from fusiontrade.settings import Settings, SettingsError

__all__ = [
    "ROOT",
    "Options",
    "PortInUse",
    "check_ports",
    "free_port",
    "listener_on",
    "parse",
    "program_of",
    "yahoo_answers",
]

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
_YAHOO = "https://query1.finance.yahoo.com/v8/finance/chart/EURUSD=X?range=1d&interval=1h"


class PortInUse(Exception):
    """A port is taken; the message names it, who listens and how to choose another."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The choices of one run; ``market_data`` is empty until it was found out whether Yahoo answers."""

    port: int = 2001
    serving_port: int = 8080
    emulator_port: int = 4566
    training_port: int = 0
    state: str = str(ROOT / ".local")
    bundles: str = str(ROOT / "serving" / "starter")
    concurrency: int = 4
    market_data: str = ""
    market_data_dir: str = ""
    market_data_as_of: str = ""
    log_level: str = "INFO"
    verbose: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """What the functions are told of these choices, by variable."""
        chosen = {
            "LOG_LEVEL": self.log_level,
            "MARKET_DATA": self.market_data,
            "MARKET_DATA_DIR": self.market_data_dir,
            "MARKET_DATA_AS_OF": self.market_data_as_of,
        }
        return {name: value for name, value in chosen.items() if value}

    @property
    def folder(self) -> Path:
        """Where state, logs and outbox live."""
        return Path(self.state)

    @property
    def log_file(self) -> Path:
        """The one log."""
        return self.folder / "log" / "fusiontrade.log"

    @property
    def served(self) -> Path:
        """What the models' program serves, and how it came there."""
        return self.folder / "serving"

    @property
    def outbox(self) -> Path:
        """Where mails go: one file each."""
        return self.folder / "outbox"

    @property
    def url(self) -> str:
        """Root of the API."""
        return f"http://{HOST}:{self.port}"

    @property
    def serving_url(self) -> str:
        """Root of the serving program."""
        return f"http://{HOST}:{self.serving_port}"

    @property
    def training_url(self) -> str:
        """Root of the trainings' program."""
        return f"http://{HOST}:{self.training_port}"

    @property
    def emulator_url(self) -> str:
        """Root of the emulated AWS."""
        return f"http://{HOST}:{self.emulator_port}"

    def to_json(self) -> str:
        """Return the choices as text for another process of the stack."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Return the choices that `to_json` wrote."""
        return cls(**json.loads(text))


_HELP = {
    "port": "port of the API",
    "serving_port": "port of the models' program",
    "emulator_port": "port of the emulated AWS",
    "training_port": "port of the trainings' program, 0 for a free one",
    "state": "folder of state, logs and mail",
    "bundles": "folder of model bundles",
    "concurrency": "most processes of one function at once",
    "market_data": "yahoo, files or simulated (default: yahoo where it answers, else simulated)",
    "market_data_dir": "folder of Parquet bars with its instruments.toml, for files",
    "market_data_as_of": "the present of files, ISO-8601 with Z (default: the symbol's last bar)",
    "log_level": "DEBUG, INFO, WARNING or ERROR",
    "verbose": "show the log here as well",
}


def variable_of(field: str) -> str:
    """Return the environment variable of an option."""
    return field.upper() if field.startswith(("market_data", "log_level")) else f"FUSIONTRADE_{field.upper()}"


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Return the choices made; ends the program with a message where one is wrong (as argparse does)."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description="The whole platform on this machine.")
    for field in dataclasses.fields(Options):
        flag, variable = "--" + field.name.replace("_", "-"), variable_of(field.name)
        text = f"{_HELP[field.name]} [{variable}]"
        given = environ.get(variable) or field.default
        if isinstance(field.default, bool):
            parser.add_argument(
                flag, action="store_true", default=str(given).lower() in ("1", "true", "yes"), help=text
            )
        else:
            parser.add_argument(flag, type=type(field.default), default=given, help=text)
    options = Options(**vars(parser.parse_args(arguments)))
    _check(options, parser)
    state, bundles, data = map(_absolute, (options.state, options.bundles, options.market_data_dir))
    return dataclasses.replace(options, state=state, bundles=bundles, market_data_dir=data)


def _fault_of_files(folder: str) -> str:
    """Return what is wrong with a folder of bars, empty where nothing is."""
    from fusiontrade.market.providers.instruments import Instruments

    if not folder:
        return "it is not set"
    try:
        Instruments.read(Path(folder).expanduser())
    except InvalidInput as error:
        return f"it is {folder}: {error}"
    return ""


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve()) if folder else ""


def _check(options: Options, parser: argparse.ArgumentParser) -> None:
    if options.market_data not in ("", "yahoo", "files", "simulated"):
        parser.error(f"MARKET_DATA={options.market_data!r} is none of yahoo, files, simulated")
    if options.market_data == "files" and (fault := _fault_of_files(options.market_data_dir)):
        parser.error(f"MARKET_DATA=files needs MARKET_DATA_DIR, a folder with an instruments.toml; {fault}")
    if not Path(options.bundles).expanduser().is_dir():
        parser.error(f"FUSIONTRADE_BUNDLES={options.bundles} is no folder: bundles are made by make train")
    try:
        Settings.from_environment({"STAGE": "local", **options.variables})
    except SettingsError as error:
        parser.error(str(error))
    ports = [options.port, options.serving_port, options.emulator_port]
    if len(set(ports)) < 3:
        parser.error(f"the three ports must differ; they are {', '.join(map(str, ports))}")
    if not all(1 <= port <= 65535 for port in ports):
        parser.error(f"a port lies between 1 and 65535; given are {', '.join(map(str, ports))}")
    if options.concurrency < 1:
        parser.error(f"--concurrency must be at least 1, not {options.concurrency}")


# --- ports ------------------------------------------------------------------------------------------------------------


def check_ports(options: Options) -> None:
    """Make sure that all three ports are free.

    Raises
    ------
    PortInUse
        If one is not; all that are taken are named.
    """
    taken = []
    for field in ("port", "serving_port", "emulator_port"):
        number = getattr(options, field)
        if (reason := why_not(number)) is not None:
            what, flag = _HELP[field].removeprefix("port of "), "--" + field.replace("_", "-")
            way_out = f"choose another port with {variable_of(field)}=... or make run ARGS='{flag} ...'"
            taken.append(f"port {number} ({what}) {reason}. Stop it, or {way_out}")
    if taken:
        raise PortInUse("\n".join(taken))


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def why_not(port: int) -> str | None:
    """Return why no server may listen on 127.0.0.1:``port``, None where one may."""
    with socket.socket() as caller:
        caller.settimeout(0.5)
        answered = caller.connect_ex((HOST, port)) == 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            return "is not open to you on this machine"
        except OSError:
            answered = True
    if not answered:
        return None
    who = listener_on(port) or "another program"
    return f"is in use: {who} listens there"


def listener_on(port: int) -> str:
    """Return who listens on a port, as ``name (pid 123)``; empty where this machine does not tell."""
    if (found := _from_proc(port)) is not None:
        return found
    if lsof := shutil.which("lsof"):
        command = [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        fields = {line[:1]: line[1:] for line in told.splitlines()}
        if "p" in fields:
            return f"{fields.get('c', 'a program')} (pid {fields['p']})"
    return ""


def _from_proc(port: int) -> str | None:
    """Look the listener up in Linux's /proc; None where there is none or it is not ours to see."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    links = {f"socket:[{inode}]" for inode in inodes}
    if not links:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) in links for fd in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                return f"{program_of(words)} (pid {process.name})"
    return None


def program_of(words: Sequence[str]) -> str:
    """Return what a command line runs, short enough for a message: a part of another stack is named by its module."""
    if "-m" in words:
        module = words[words.index("-m") + 1 :]
        return "python -m " + (module[2] if module[0] == "infra.local.leash" else module[0])
    return " ".join(words).strip()[:60]


# --- network ----------------------------------------------------------------------------------------------------------


def yahoo_answers(timeout: float = 2.0) -> bool:
    """Tell whether Yahoo itself answers within ``timeout`` seconds: a proxy's refusal or sign-in page is no answer."""
    request = urllib.request.Request(_YAHOO, headers={"User-Agent": "Mozilla/5.0"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return "json" in answer.headers.get_content_type()
    except urllib.error.HTTPError as answer:
        with answer:  # a 429 comes from Yahoo; other refusals come from a proxy on the way as well
            return bool(answer.code == 429)
    except (OSError, ValueError):
        return False
