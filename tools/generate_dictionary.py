"""Writes the Standard's facts that `wire/` reads: data elements, storage SOP classes. Run by hand when the Standard moves on."""

from __future__ import annotations

from pathlib import Path

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._uid_dict import UID_dictionary

WIRE = Path(__file__).parents[1] / "src" / "leadglass" / "wire"


def elements() -> str:
    """Curves and overlays repeat in groups 50xx and 60xx (PS3.5 7.6): the first group stands for all."""
    repeated = {
        int(mask.replace("xx", "00"), 16): known
        for mask, known in RepeatersDictionary.items()
        if mask.startswith(("50xx", "60xx"))
    }
    rows = []
    for tag, (vr, _, _, retired, keyword) in sorted((DicomDictionary | repeated).items()):
        if keyword and vr != "NONE":
            rows.append(f"{tag:08X}\t{vr}\t{keyword}\t{'R' if retired else ''}")
    return "\n".join(rows) + "\n"


def storage_classes() -> str:
    rows = []
    for uid, (name, kind, _, retired, keyword) in sorted(UID_dictionary.items()):
        if kind == "SOP Class" and "Storage" in name and "Commitment" not in name and "Directory" not in name:
            rows.append(f"{uid}\t{keyword or name.replace(' ', '')}\t{'R' if retired else ''}")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    (WIRE / "dictionary.tsv").write_text(elements())
    (WIRE / "sop_classes.tsv").write_text(storage_classes())
