// A file that somebody chooses is read here, into the field it stands beside: what is sent is that field alone.

const LENGTH_MAX_BYTES = 16384; // where the field says no other, in data-max

for (const input of document.querySelectorAll('input[type="file"][data-into]')) {
  input.closest("[hidden]").hidden = false;
  input.addEventListener("change", async () => {
    const file = input.files[0];
    if (!file) return;
    const most = Number(input.dataset.max ?? LENGTH_MAX_BYTES);
    const fits = file.size <= most;
    input.setCustomValidity(fits ? "" : `This file is too long: ${most} bytes at most.`);
    input.reportValidity();
    if (fits) document.getElementById(input.dataset.into).value = await file.text();
  });
}
