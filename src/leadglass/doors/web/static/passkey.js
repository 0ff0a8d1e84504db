// Passkeys in forms. A form with data-passkey asks the server for options, the authenticator for an answer, and sends that with the form.
// Nothing is decided here: whatever comes of it, the server verifies.

export const supported = Boolean(
  window.PublicKeyCredential?.parseRequestOptionsFromJSON && window.PublicKeyCredential?.parseCreationOptionsFromJSON,
);
const FRESH_MILLISECONDS = 240_000; // a challenge is good for 300 s
const csrf = () => document.querySelector('meta[name="csrf"]')?.content ?? "";

export async function post(path, fields) {
  const body = new URLSearchParams({ csrf: csrf(), ...fields });
  return fetch(path, { method: "POST", body, headers: { Accept: "application/json" }, credentials: "same-origin", redirect: "error" });
}

async function optionsFor(form) {
  const answer = await post(form.dataset.options, { purpose: form.dataset.purpose ?? "" });
  if (!answer.ok) throw new Error("options");
  return answer.json();
}

export async function assertion(form, { mediation, signal } = {}) {
  const { handle, options } = await optionsFor(form);
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const credential = await navigator.credentials.get({ publicKey, mediation, signal });
  return { handle, answer: JSON.stringify(credential.toJSON()) };
}

async function creation(form) {
  const { handle, options } = await optionsFor(form);
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  const credential = await navigator.credentials.create({ publicKey });
  return { handle, answer: JSON.stringify(credential.toJSON()) };
}

const REASONS = {
  NotAllowedError: "The passkey was not used: it was cancelled, or took too long. Try again.",
  InvalidStateError: "This device has a passkey of yours for this site already.",
  SecurityError: "This browser refuses passkeys at this address. Open the site by its own name.",
  NotSupportedError: "This device cannot make such a passkey. Try another device or a security key.",
  options: "The site does not answer as it should, or the page is too old. Load it again.",
};

export function reason(error) {
  return REASONS[error?.name] ?? REASONS[error?.message] ?? "That did not work. Try again, or use another way.";
}

function say(form, text) {
  const place = form.querySelector("[data-said]");
  place.textContent = text;
  place.classList.toggle("bad", Boolean(text));
}

const sent = new WeakSet(); // forms on their way: the browser's suggestion and the button may both have an answer, and one of them is enough

async function send(form, { handle, answer }) {
  if (sent.has(form)) return;
  form.elements.handle.value = handle;
  form.elements.answer.value = answer;
  if (form.dataset.then !== "again") {
    sent.add(form);
    return form.submit();
  }
  const done = await post(form.getAttribute("action"), { handle, answer });
  if (!done.ok) throw new Error("refused");
  document.getElementById("again").submit();
}

function prepare(form) {
  if (!supported) {
    say(form, "This browser cannot use passkeys. Use a newer one, or another way below.");
    form.querySelector("button").disabled = true;
    return;
  }
  let waiting = new AbortController();
  const suggest = async () => {
    if (!("suggest" in form.dataset) || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
    const mine = (waiting = new AbortController());
    const again = setTimeout(() => { mine.abort(); suggest(); }, FRESH_MILLISECONDS);
    try {
      await send(form, await assertion(form, { mediation: "conditional", signal: mine.signal }));
    } catch (error) {
      if (error?.name !== "AbortError" && error?.name !== "NotAllowedError") say(form, reason(error));
    } finally {
      clearTimeout(again);
    }
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sent.has(form)) return;
    waiting.abort();
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    say(form, "");
    try {
      await send(form, form.dataset.passkey === "create" ? await creation(form) : await assertion(form));
    } catch (error) {
      say(form, reason(error));
      button.focus();
      suggest();
    } finally {
      button.disabled = false;
    }
  });
  suggest();
}

window.addEventListener("pageshow", (event) => event.persisted && location.reload()); // come back to by the back button: its challenge is used
for (const form of document.querySelectorAll("form[data-passkey]")) prepare(form);
