"""Runs Autobahn's WebSocket cases, as published on PyPI, against the servers at the URLs given, and prints the
verdicts of all as JSON: {"case": [[behaviour, behaviour at the close], one for each URL]}.

Its cases are Python 2, whose strings are bytes. Here they are strings of Latin-1, which turn into bytes where they
leave; those of compression (12, 13) work on bytes. The protocol below them is the same project's, as it is today.
Cases of traffic without end (9.9), which wstest does not list either, are left out. Those of compression send as many
messages as the first argument says, not 1,000 each: they are 216.
"""
import asyncio
import importlib.abc
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import autobahn.websocket.protocol as protocol
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.utf8validator import Utf8Validator

MESSAGES = int(sys.argv[1])
AT_ONCE = 16
PATIENCE = 20  # How many times as long as they say cases wait for what should come at once: other work goes on here.
LIMITS = dict(openHandshakeTimeout=60, closeHandshakeTimeout=60, serverConnectionDropTimeout=60)


def load_cases():
    package = Path(importlib.util.find_spec("autobahntestsuite").submodule_search_locations[0])
    directory = package / "case"
    sys.meta_path.insert(0, Python2(directory))
    stand_in("case9_9_1")
    # Of setuptools, which has dropped it.
    stand_in("pkg_resources", resource_filename=lambda _, file: str(package / file))
    listed = {}
    exec(as_python3((directory / "__init__.py").read_text("latin-1")), listed)
    sys.modules["case"].Case.compare = lambda self, one, other: one == other
    return {case.__name__[4:].replace("_", "."): case for case in listed["Cases"]}


def stand_in(name, **values):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__dict__.update(values)


def as_python3(source):
    source = re.sub(r"^(\s*)print\b.*$", r"\1pass", source, flags=re.M)
    source = re.sub(r"\bxrange\b", "range", source).replace("unichr", "chr")
    source = source.replace("len(self.payload) / ", "len(self.payload) // ")
    # As the protocol's own library spells them now.
    source = re.sub(r"(request|accept)(NoContextTakeover|MaxWindowBits)", lambda m: in_snake_case(m[0]), source)
    source = re.sub(r"^(\s*\(\d+, *)1000,", rf"\g<1>{MESSAGES},", source, flags=re.M)
    source = source.replace("(object, Case, )", "(Case,)").replace("Utf8Validator()", "OctetsValidator()")
    return source.replace("binascii.b2a_hex(", "octets_in_hex(")


def in_snake_case(name):
    return re.sub(r"([A-Z])", lambda capital: f"_{capital[0].lower()}", name)


class Python2(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, directory):
        self.directory = directory

    def find_spec(self, name, path, target=None):
        file = self.directory / f"{name}.py"
        return importlib.util.spec_from_loader(name, self, origin=str(file)) if file.exists() else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.octets_in_hex = lambda text: octets(text).hex()
        module.OctetsValidator = OctetsValidator
        exec(as_python3(Path(module.__spec__.origin).read_text("latin-1")), module.__dict__)


class FastMasker:
    """XOR by the whole frame: autobahn's own, in Python, takes a second for 2 MB."""

    def __init__(self, mask):
        self.mask, self.at = mask, 0

    def pointer(self):
        return self.at

    def reset(self):
        self.at = 0

    def process(self, data):
        shift = self.at & 3
        self.at += len(data)
        key = (self.mask[shift:] + self.mask[:shift]) * (len(data) // 4 + 1)
        mixed = int.from_bytes(data, "big") ^ int.from_bytes(key[: len(data)], "big")
        return mixed.to_bytes(len(data), "big")


def octets(text):
    return text.encode("latin-1") if isinstance(text, str) else text


class OctetsValidator(Utf8Validator):
    def validate(self, text):
        return super().validate(octets(text))


class Fuzzer(WebSocketClientProtocol):
    """What a case knows as `self.p`."""

    connectionWasOpen = False

    def start(self, case, ended):
        self.ended = ended
        self.txFrameStats = {}
        self.createWirelog = False
        self.case = case(self)

    def onOpen(self):
        self.connectionWasOpen = True
        self.case.onOpen()

    def onMessage(self, payload, isBinary):
        isOfCompression = hasattr(self.case, "CLIENT_OFFERS")
        self.case.onMessage(payload if isOfCompression else payload.decode("latin-1"), isBinary)

    def onPing(self, payload):
        self.case.onPing(payload.decode("latin-1"))

    def onPong(self, payload):
        self.case.onPong(payload.decode("latin-1"))

    def onClose(self, wasClean, code, reason):
        self.case.onClose(wasClean, code, reason)

    def connection_lost(self, error):
        super().connection_lost(error)
        self.case.onConnectionLost(self.failedByMe)
        self.ended.set_result([self.case.behavior, self.case.behaviorClose])

    def logTxFrame(self, header, payload, repeatLength, chopsize, sync):
        self.txFrameStats[header.opcode] = self.txFrameStats.get(header.opcode, 0) + 1

    def logRxFrame(self, header, payload):
        pass

    def enableWirelog(self, enable):
        pass

    def sendFrame(self, opcode, payload=b"", **rest):
        super().sendFrame(opcode, octets(payload), **rest)

    def sendMessage(self, payload, isBinary=False, **rest):
        super().sendMessage(octets(payload), isBinary, **rest)

    def sendMessageFrameData(self, payload, sync=False):
        return super().sendMessageFrameData(octets(payload), sync)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, octets(reasonUtf8), isReply)

    def continueLater(self, delay, then, tag=None):
        self.later(delay, then)

    def killAfter(self, delay):
        self.later(delay * PATIENCE, self._fail_connection)

    def closeAfter(self, delay):
        self.later(delay * PATIENCE, self.sendClose)

    def later(self, delay, then):
        loop = asyncio.get_running_loop()
        loop.call_later(delay, lambda: then() if self.state != self.STATE_CLOSED else None)


async def verdict(url, case, turns):
    async with turns:
        loop = asyncio.get_running_loop()
        factory = WebSocketClientFactory(url)
        factory.protocol = Fuzzer
        factory.logFrames = True
        factory.setProtocolOptions(failByDrop=False, utf8validateIncoming=False, **LIMITS)
        ended = loop.create_future()

        def start():
            fuzzer = factory()
            fuzzer.start(case, ended)
            return fuzzer

        await loop.create_connection(start, factory.host, factory.port)
        return await ended


async def main(urls):
    cases = load_cases()
    turns = asyncio.Semaphore(AT_ONCE)
    verdicts = await asyncio.gather(*(verdict(url, case, turns) for case in cases.values() for url in urls))
    rows = [verdicts[at : at + len(urls)] for at in range(0, len(verdicts), len(urls))]
    print(json.dumps(dict(zip(cases, rows))))


protocol.create_xor_masker = lambda mask, length=None: FastMasker(mask)
asyncio.run(main(sys.argv[2:]))
