// The player of a call's page: the head on the waveform, jumping to what happened or was said, copying a link. The sound itself is
// the browser's own player, which works without this.
"use strict";

function player(part) {
  const audio = part.querySelector("audio");
  const wave = part.querySelector("[data-wave]");
  const head = part.querySelector("[data-head]");
  const link = part.querySelector("form[data-link]");

  function show() {
    if (!head || !audio || !Number.isFinite(audio.duration)) return;
    const x = String((600 * audio.currentTime) / audio.duration);
    head.setAttribute("x1", x);
    head.setAttribute("x2", x);
  }

  function jump(seconds) {
    audio.currentTime = Math.max(0, seconds);
    show();
    audio.play().catch(() => {});
  }

  if (audio) {
    for (const name of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(name, show);
    for (const button of part.querySelectorAll("[data-seek]")) {
      button.addEventListener("click", (event) => {
        event.preventDefault(); // of a link, which opens the file at this time where there is no script
        jump(Number(button.dataset.seek));
      });
    }
    const spoken = [...part.querySelectorAll("[data-at]")];
    audio.addEventListener("timeupdate", () => {
      const now = spoken.findLast((line) => Number(line.dataset.at) <= audio.currentTime);
      for (const line of spoken) line.classList.toggle("now", line === now && !audio.paused);
    });
    wave?.addEventListener("click", (event) => {
      const box = wave.getBoundingClientRect();
      if (Number.isFinite(audio.duration)) jump((audio.duration * (event.clientX - box.left)) / box.width);
    });
  }

  link?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = link.querySelector(".said-link");
    const answer = await fetch(link.action, {
      method: "POST", body: new URLSearchParams(new FormData(link)), headers: { "X-Fragment": "1" },
    }).catch(() => null);
    if (!answer || !answer.ok) return link.submit();
    const text = await answer.text();
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = said.dataset.copied;
    } catch {
      const field = document.createElement("input"); // no clipboard here: to be copied by hand
      field.readOnly = true;
      field.value = text;
      said.replaceChildren(field);
      field.select();
    }
  });
}

document.querySelectorAll(".player").forEach(player);
