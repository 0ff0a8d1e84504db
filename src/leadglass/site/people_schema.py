"""Which tables does the register keep about people? Its second migration; what came later has one of its own."""

from __future__ import annotations

PEOPLE = """
CREATE TABLE people(
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, display TEXT NOT NULL, mail TEXT NOT NULL, source TEXT NOT NULL,
    departments TEXT NOT NULL, names TEXT NOT NULL, certificates TEXT NOT NULL, enabled INTEGER NOT NULL, until_ns INTEGER NOT NULL,
    added_by TEXT NOT NULL, why TEXT NOT NULL, added_ns INTEGER NOT NULL, disabled_why TEXT NOT NULL, changed_ns INTEGER NOT NULL,
    gone_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE roles(
    person TEXT NOT NULL, role TEXT NOT NULL, granted_by TEXT NOT NULL, why TEXT NOT NULL, at_ns INTEGER NOT NULL,
    last_used_ns INTEGER NOT NULL, PRIMARY KEY(person, role)) WITHOUT ROWID;
CREATE TABLE invitations(
    digest TEXT PRIMARY KEY, person TEXT NOT NULL, purpose TEXT NOT NULL, made_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX invitations_person ON invitations(person);
CREATE TABLE passkeys(
    credential TEXT PRIMARY KEY, person TEXT NOT NULL, public_key BLOB NOT NULL, sign_count INTEGER NOT NULL, label TEXT NOT NULL,
    aaguid TEXT NOT NULL, backed_up INTEGER NOT NULL, created_ns INTEGER NOT NULL, last_used_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX passkeys_person ON passkeys(person);
CREATE TABLE passwords(person TEXT PRIMARY KEY, hash TEXT NOT NULL, created_ns INTEGER NOT NULL, last_used_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE totps(person TEXT PRIMARY KEY, secret TEXT NOT NULL, created_ns INTEGER NOT NULL, last_used_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE recovery_codes(
    person TEXT NOT NULL, digest TEXT NOT NULL, used_ns INTEGER NOT NULL, PRIMARY KEY(person, digest)) WITHOUT ROWID;
CREATE TABLE used_codes(person TEXT NOT NULL, counter INTEGER NOT NULL, PRIMARY KEY(person, counter)) WITHOUT ROWID;
CREATE TABLE used_handles(nonce TEXT PRIMARY KEY, until_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX used_handles_until ON used_handles(until_ns);
CREATE TABLE guesses(key TEXT PRIMARY KEY, failures INTEGER NOT NULL, last_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX guesses_last ON guesses(last_ns);
CREATE TABLE sessions(
    id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, person TEXT NOT NULL, browser TEXT NOT NULL, address TEXT NOT NULL,
    factors TEXT NOT NULL, opened_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL, stepped_up_ns INTEGER NOT NULL, locked INTEGER NOT NULL,
    until_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, ended_why TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX sessions_person ON sessions(person, ended_ns);
CREATE TABLE relations(
    person TEXT NOT NULL, relation TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL, study_instance_uid TEXT NOT NULL,
    from_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL, source TEXT NOT NULL,
    PRIMARY KEY(person, relation, issuer, patient_id, study_instance_uid, source)) WITHOUT ROWID;
CREATE TABLE access_requests(
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, person TEXT NOT NULL, act TEXT NOT NULL, about TEXT NOT NULL, digest TEXT NOT NULL,
    facts TEXT NOT NULL, why TEXT NOT NULL, from_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL,
    state TEXT NOT NULL CHECK(state IN ('requested', 'approved', 'denied', 'cancelled', 'expired', 'done')),
    asked_ns INTEGER NOT NULL, settled_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX access_requests_person ON access_requests(person, state);
CREATE TABLE decisions(
    request TEXT NOT NULL, person TEXT NOT NULL, decision TEXT NOT NULL CHECK(decision IN ('approved', 'denied', 'cancelled')),
    why TEXT NOT NULL, at_ns INTEGER NOT NULL, PRIMARY KEY(request, person)) WITHOUT ROWID;
CREATE TABLE glass(
    id TEXT PRIMARY KEY, person TEXT NOT NULL, issuer TEXT NOT NULL, patient_id TEXT NOT NULL, reason TEXT NOT NULL,
    from_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL, reviewed_by TEXT NOT NULL, verdict TEXT NOT NULL, note TEXT NOT NULL,
    reviewed_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX glass_person ON glass(person, until_ns);
CREATE TABLE leases(
    id TEXT PRIMARY KEY, person TEXT NOT NULL, session TEXT NOT NULL, device TEXT NOT NULL, from_ns INTEGER NOT NULL,
    until_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, ended_why TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX leases_device ON leases(device, ended_ns);
CREATE TABLE reviews(
    id TEXT PRIMARY KEY, reviewer TEXT NOT NULL, at_ns INTEGER NOT NULL, digest TEXT NOT NULL, findings TEXT NOT NULL) WITHOUT ROWID;
"""

HINTS = "ALTER TABLE sessions ADD COLUMN hint TEXT NOT NULL DEFAULT ''"

# Machine clients are few among many people, and so are requests for them.
MACHINES = """
CREATE INDEX people_machines ON people(id) WHERE certificates != '[]';
CREATE INDEX access_requests_machine ON access_requests(json_extract(facts, '$.machine')) WHERE json_extract(facts, '$.machine') IS NOT NULL;
"""
