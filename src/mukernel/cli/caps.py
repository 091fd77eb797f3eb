"""`mukernel caps`, `grant`, `revoke`: what plug-ins may call, and changing that while they run."""

from __future__ import annotations

import argparse
from collections import Counter

from ..core.control import Control, HeldCapabilities, OpenChannel
from .client import shown, with_control
from .options import add_options
from .terminal import Terminal, as_json

HEADER = ("NAME", "PLACEMENT", "HELD BY", "GRANTS", "CHANNELS")

CAPS = """\
List what the plug-ins of a running application may call, and which channels are open for it.

GRANTS says what each holds; "(default)" behind it: its declaration has no `grants`, so it may call what its
constructor asks for, and in a sandbox nothing. HELD BY says what holds it to that: "process" and "sandbox": the
kernel opens no channel to anything else; "advice": it runs in the kernel's own process, where nothing can.
CHANNELS are those of its process, which plug-ins that share it have, too; "passed on by" says who gave it a part of
what it holds, by a token, and "of the grant of" whose it was in the first place. Revoke it there: mukernel revoke
GIVER GRANT."""
GRANT = """\
Let a plug-in call more, from now on. GRANT is an interface, such as Catalog; with rights, Files:read or
Files:read,write; and with a scope, Files:read:/data. It lasts until the application ends: what is to last longer is
written in app.toml."""
REVOKE = """\
Take from a plug-in what it was granted, and all that lies within. Its channels are closed at once: calls that are being
run there end in PermissionDenied, and so do later ones. Plug-ins that share its process lose the calls that they have
under way there, and go on with what they were granted themselves."""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    if command == "caps":
        parser.description = CAPS
        parser.epilog = "examples:\n  mukernel caps\n  mukernel caps catalog --json"
        parser.add_argument("name", metavar="PLUGIN", nargs="?", help="one plug-in (default: all)")
    else:
        parser.description = GRANT if command == "grant" else REVOKE
        parser.epilog = f"examples:\n  mukernel {command} report Catalog\n  mukernel {command} report Files:read:/data"
        parser.add_argument("name", metavar="PLUGIN", help="whose grants are changed")
        parser.add_argument("grant", metavar="GRANT", help="INTERFACE[:RIGHT,...[:SCOPE]]")
    add_options(parser, changes=command != "caps")
    parser.set_defaults(run={"caps": caps, "grant": grant, "revoke": revoke}[command])


def caps(arguments: argparse.Namespace) -> int:
    return shown(
        arguments,
        lambda control: control.caps(arguments.name),
        lambda held, terminal: [terminal.table(HEADER, [row(each, terminal) for each in held])],
    )


def row(held: HeldCapabilities, terminal: Terminal) -> list[str]:
    """The cells of one plug-in, in the order of HEADER."""
    channels = Counter(map(channel_text, held.channels))
    opened = "; ".join(each + (f" ({count})" if count > 1 else "") for each, count in channels.items())
    grants = ", ".join(held.grants) or "none"
    return [
        terminal.paint(held.plugin, "bold"), held.placement, held.enforced,
        grants if held.stated else f"{grants} (default)", opened or "-",
    ]  # fmt: skip


def channel_text(channel: OpenChannel) -> str:
    """What a channel is; of what was passed on, too, how far it goes and whose it is."""
    if not channel.giver:
        return f"{channel.interface} of {channel.plugin}"
    part = " and ".join(channel.grants) or channel.interface
    origin = f" (of the grant of {channel.origin})" if channel.origin != channel.giver else ""
    return f"{part} of {channel.plugin}, passed on by {channel.giver}{origin}"


def grant(arguments: argparse.Namespace) -> int:
    async def work(control: Control) -> int:
        await control.grant(arguments.name, arguments.grant)
        terminal = Terminal()
        if arguments.json:
            terminal.say(as_json({"plugin": arguments.name, "granted": arguments.grant}))
        else:
            terminal.say(f"{arguments.name} may call {arguments.grant}")
        return 0

    return with_control(work, arguments)


def revoke(arguments: argparse.Namespace) -> int:
    async def work(control: Control) -> int:
        closed = await control.revoke(arguments.name, arguments.grant)
        terminal = Terminal()
        if arguments.json:
            terminal.say(as_json({"plugin": arguments.name, "revoked": arguments.grant, "channels_closed": closed}))
        else:
            channels = "1 channel was closed" if closed == 1 else f"{closed} channels were closed"
            terminal.say(f"{arguments.name} may not call {arguments.grant} any more; {channels}")
        return 0

    return with_control(work, arguments)
