// A file that somebody chooses is read here, into the field it stands beside: what is sent is that field alone.

const LENGTH_MAX_BYTES = 16384;

for (const input of document.querySelectorAll('input[type="file"][data-into]')) {
  input.closest("[hidden]").hidden = false;
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    const fits = file.size <= LENGTH_MAX_BYTES;
    input.setCustomValidity(fits ? "" : "This file is too long for a certificate request.");
    input.reportValidity();
    if (fits) document.getElementById(input.dataset.into).value = await file.text();
  });
}
