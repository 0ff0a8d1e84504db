"""The console's pages, a module a subject; `PAGES` is all of them. Each is a function from a visit to an answer."""

from __future__ import annotations

from leadglass.doors.web.pages import (
    access,
    accounts,
    archive,
    audit,
    containment,
    devices,
    elsewhere,
    enrolment,
    erasures,
    exports,
    keys,
    me,
    metrics,
    network,
    people,
    reports,
    sign_in,
    site_file,
    studies,
    transcripts,
    workstation,
)
from leadglass.doors.web.pages.page import Page

PAGES: tuple[Page, ...] = (
    *sign_in.PAGES,
    *elsewhere.PAGES,
    *enrolment.PAGES,
    *studies.PAGES,
    *exports.PAGES,
    *archive.PAGES,
    *erasures.PAGES,
    *keys.PAGES,
    *me.PAGES,
    *people.PAGES,
    *accounts.PAGES,
    *devices.PAGES,
    *containment.PAGES,
    *site_file.PAGES,
    *access.PAGES,
    *transcripts.PAGES,
    *audit.PAGES,
    *reports.PAGES,
    *metrics.PAGES,
    *network.PAGES,
    *workstation.PAGES,
)
