// The shared workstation: a screen that nobody touches locks itself; one gesture with the passkey opens it again, as it was.
// The server locks by its own clock too: what is shown here is only how it looks.

import { assertion, post, reason } from "./passkey.js";

const idleMilliseconds = 1000 * Number(document.querySelector('meta[name="idle-seconds"]').content);
const SAY_EVERY_MILLISECONDS = 60_000; // somebody who reads loads no page: the server is told that they are there
const dialog = document.getElementById("locked");
const unlock = document.getElementById("unlock");
const said = document.getElementById("locked-said");
const others = new BroadcastChannel("leadglass-session");
let touched = Date.now();
let told = Date.now();

function show() {
  if (dialog.open) return;
  said.textContent = "";
  dialog.showModal();
  unlock.focus();
}

async function lock() {
  show();
  others.postMessage("locked");
  await post("/lock", {}).catch(() => {});
}

function open() {
  touched = told = Date.now();
  dialog.close();
}

async function look() {
  const now = Date.now();
  if (dialog.open) return;
  if (now - touched >= idleMilliseconds) return lock();
  if (touched > told && now - told >= SAY_EVERY_MILLISECONDS) {
    told = now;
    const answer = await fetch("/still", { headers: { Accept: "application/json" }, credentials: "same-origin" }).catch(() => null);
    if (answer?.status === 401) (await answer.json()).locked ? show() : location.reload();
  }
}

for (const kind of ["pointerdown", "keydown", "wheel", "touchstart"]) {
  addEventListener(kind, () => { if (!dialog.open) touched = Date.now(); }, { passive: true });
}
dialog.addEventListener("cancel", (event) => event.preventDefault()); // Escape opens nothing
others.addEventListener("message", ({ data }) => (data === "locked" ? show() : open()));
document.getElementById("lock").addEventListener("submit", (event) => { event.preventDefault(); lock(); });
unlock.addEventListener("click", async () => {
  unlock.disabled = true;
  said.textContent = "";
  try {
    const proof = await assertion({ dataset: { options: "/passkey/options", purpose: "unlock" } });
    const answer = await post("/unlock", proof);
    if (!answer.ok) throw new Error("options");
    open();
    others.postMessage("open");
  } catch (error) {
    said.textContent = reason(error);
  } finally {
    unlock.disabled = false;
    unlock.focus();
  }
});
setInterval(look, 5_000);
document.addEventListener("visibilitychange", look);
