"""What does an event mean, how grave is it, and what does an operator do? One row for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leadglass.terms import EventKind, Severity


@dataclass(frozen=True, slots=True)
class Entry:
    """`means`: one sentence. `mend`: what an operator does about it."""

    severity: Severity
    means: str
    mend: str


_NOTHING = "Nothing: this is the normal course."

CATALOGUE: Mapping[EventKind, Entry] = {
    EventKind.ASSOCIATION_ADMITTED: Entry(
        Severity.NOTICE, "A device was identified by certificate, AE titles and network, and let in.", _NOTHING
    ),
    EventKind.ASSOCIATION_ENDED: Entry(
        Severity.NOTICE,
        "An association is over; its reason says how, where it did not end by release.",
        "Look at the device and the network between where associations of one device end without a release again and again.",
    ),
    EventKind.ASSOCIATION_REFUSED: Entry(
        Severity.WARNING,
        "Somebody called and was not let in; the reason says which fact did not agree.",
        "Enrol it with `leadglass device enroll` if it belongs here; if not, find it by its address and ask why it calls.",
    ),
    EventKind.CERTIFICATE_EXPIRING: Entry(
        Severity.WARNING,
        "A certificate ends soon or has ended.",
        "`leadglass device renew NAME` and put the bundle on the device; `leadglass device waive NAME` bridges some hours.",
    ),
    EventKind.CHANGE_ABANDONED: Entry(
        Severity.WARNING,
        "A change was allowed and begun, and failed; nothing of it holds that the reason does not name.",
        "Mend what the reason says and give the command again: repeating a change is harmless.",
    ),
    EventKind.CHANGE_COMPLETED: Entry(
        Severity.NOTICE,
        "A change to the site was done.",
        "Nothing, if the operator meant it; if nobody knows of it, disable that account and `leadglass device revoke` what it enrolled.",
    ),
    EventKind.CHANGE_INTENDED: Entry(
        Severity.NOTICE,
        "A change to the site was allowed and is about to be done; completed or abandoned follows.",
        "Where neither follows, a process died in between: give the command again.",
    ),
    EventKind.CHANGE_REFUSED: Entry(
        Severity.WARNING,
        "An operator asked for a change that no rule allows.",
        "Ask them; name their uid in [site] operators of leadglass.toml if they should be allowed.",
    ),
    EventKind.CLOCK_STEPPED: Entry(
        Severity.ALARM,
        "This host's clock was set by more than a time service corrects: what ends by the clock ends sooner or later than it should.",
        "Find out who set it and why, keep it with chrony or NTP, and read `leadglass status` for what it stops.",
    ),
    EventKind.CONTAINMENT_UNREADABLE: Entry(
        Severity.ALARM,
        "The containment state cannot be read: the last known one holds, and only known devices may store.",
        "Check owner and permissions of SITE/state/containment.json, or restore it from a backup.",
    ),
    EventKind.GLASS_UNREVIEWED: Entry(
        Severity.ALARM,
        "The glass was broken for a patient, and nobody has looked at it for a day.",
        "Open the reviews in the console, ask whoever broke it, and say what came of it.",
    ),
    EventKind.INSTANCE_CONFLICTED: Entry(
        Severity.ALARM,
        "Other bytes came under a SOP Instance UID that is taken: the first stays current, these are held.",
        "`leadglass conflicts show UID`, find out from the sender which is right, then promote or dismiss the held one.",
    ),
    EventKind.INSTANCE_CORRUPTED: Entry(
        Severity.ALARM,
        "What is kept no longer equals what was received: its seal or digest does not hold.",
        "Stop trusting that disk, restore the named segment from the replica or a backup, and keep the damaged file as evidence.",
    ),
    EventKind.INSTANCE_HELD: Entry(
        Severity.WARNING,
        "An instance was kept but not shown, because its header contradicts its study or inspection found something.",
        "`leadglass conflicts list` names it; clear every reason and promote it, or dismiss it.",
    ),
    EventKind.INSTANCE_REPEATED: Entry(
        Severity.NOTICE,
        "The same bytes were sent again; nothing was kept twice and the sender heard what it had heard before.",
        "Look at the sender's retry settings where this goes on for hours.",
    ),
    EventKind.INSTANCE_STORED: Entry(Severity.NOTICE, "An instance was kept, durably, and can be found.", _NOTHING),
    EventKind.JOURNAL_LOST: Entry(
        Severity.ALARM,
        "A journal no longer holds what it held, or nobody knows any more how far the journals had come.",
        "Find out who can write there, keep what is left as evidence, restore the named journal from a backup; after an update or a restore it is told once that nothing was noted.",
    ),
    EventKind.JOURNAL_RECOVERED: Entry(
        Severity.WARNING,
        "A journal ended without being closed: the named range was not known to be durable, and what was torn is cut.",
        "Nothing, after a crash or a power cut; without one, find out who changed the file.",
    ),
    EventKind.NETWORK_DRIFTED: Entry(
        Severity.ALARM,
        "The kernel's table was not the one that was loaded: the differences are named, and the right table is loaded again.",
        "Find out who changed it: root of this host, or another program that writes tables; `leadglass zones verify` shows what is left.",
    ),
    EventKind.NETWORK_DROPPED: Entry(
        Severity.NOTICE,
        "The kernel dropped packets that no flow opens: from whom, to whom, by which service, how many.",
        "Nothing where somebody mistyped; a flow where it is needed, by `leadglass apply`; a look at the device where it goes on.",
    ),
    EventKind.NETWORK_JOINED: Entry(
        Severity.WARNING,
        "A table of another program hangs in the kernel beside ours: it opens nothing that ours drops, but may drop more, or redirect what ours lets pass.",
        "Find out whose it is; `leadglass zones verify` names every one.",
    ),
    EventKind.NETWORK_LOADED: Entry(
        Severity.NOTICE, "The kernel's table was exchanged for the one of the site file that serves.", _NOTHING
    ),
    EventKind.NETWORK_PASSED: Entry(
        Severity.NOTICE,
        "The kernel let connections begin by a flow on demand: by which, of which request, from whom, to whom, by which service, how many.",
        "Nothing, where whoever asked for it works there; `leadglass report transcript REQUEST` tells all that passed by it.",
    ),
    EventKind.NETWORK_REFUSED: Entry(
        Severity.ALARM,
        "The kernel's table is not the one of the site file that serves: the last good one is in force, and the reason is named.",
        "Read the reason; mend it and `leadglass zones apply`, or confirm what was not confirmed: `leadglass zones confirm`.",
    ),
    EventKind.NETWORK_SILENT: Entry(
        Severity.ALARM,
        "Who loads the kernel's table is not heard: the table stays as it is, and knows no containment and no approval that came since.",
        "systemctl status leadglass-firewall, and its log.",
    ),
    EventKind.NETWORK_SWEPT: Entry(
        Severity.WARNING,
        "Somebody tried many addresses or ports that no flow opens, within a minute.",
        "Look at the device; `leadglass contain device NAME --reason WORDS` keeps it out where nobody there knows of a scan.",
    ),
    EventKind.NETWORK_USED: Entry(
        Severity.NOTICE,
        "The kernel let packets of a flow pass; told once a day and flow, from its table's counters.",
        _NOTHING,
    ),
    EventKind.NETWORK_WATCHED: Entry(
        Severity.NOTICE,
        "The counters of the kernel's table were heard; told once a day: what no counter saw that day was not used.",
        _NOTHING,
    ),
    EventKind.PERSON_RECOGNISED: Entry(
        Severity.NOTICE,
        "A person proved who they are, at a sign-in, a step-up or an unlock; or a machine by its certificate, and was given a token.",
        _NOTHING,
    ),
    EventKind.PERSON_REFUSED: Entry(
        Severity.WARNING,
        "Somebody did not prove who they said they were; the reason says which fact did not hold.",
        "Ask that person whether it was them; many of these from one address mean that somebody is guessing.",
    ),
    EventKind.PROCESS_ENDED: Entry(
        Severity.WARNING,
        "A serving process ended; the reason says whether it was asked to.",
        "`journalctl -u leadglass` says why where it was not asked to; the supervisor starts another.",
    ),
    EventKind.PROCESS_STARTED: Entry(Severity.NOTICE, "A serving process began its work.", _NOTHING),
    EventKind.RELEASE_ENDED: Entry(
        Severity.NOTICE,
        "An answer is over, with how much of it was sent and its outcome.",
        "Where it failed, the reason says whose side it was; the device may ask again.",
    ),
    EventKind.RELEASE_STARTED: Entry(
        Severity.NOTICE,
        "A query, retrieval or commitment was allowed; this was written before the first byte left.",
        "Where no end follows, a process died in between: take all of it as sent.",
    ),
    EventKind.REQUEST_REFUSED: Entry(
        Severity.WARNING,
        "A device that is let in asked for something that it may not have, or that could not be done.",
        "Add a flow to leadglass.toml if it is part of its work; many of these from one device mean that it is misused.",
    ),
    EventKind.SITE_CONTAINED: Entry(
        Severity.ALARM,
        "A device, a certificate or the whole site was contained.",
        "Find the cause first; `leadglass device enable NAME` lets a disabled device in again.",
    ),
    EventKind.STANDING_CHANGED: Entry(
        Severity.NOTICE,
        "A version of an object became another: current, held, superseded or rejected.",
        "Nothing, if it follows a promote or dismiss that somebody ordered; else look for that change's operator.",
    ),
    EventKind.WRITER_RECOVERED: Entry(
        Severity.NOTICE,
        "What a process that died had left was verified, published and sealed.",
        "Nothing; where this comes again and again, look at why processes die.",
    ),
}
