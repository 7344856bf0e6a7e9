(() => {
  const button = document.getElementById("pause");
  const stale = document.getElementById("stale");
  const parts = document.querySelectorAll("[data-live]");
  if (!parts.length) return;
  let paused = false;
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
  });
  const busy = (part) => {
    const chosen = getSelection();
    return part.contains(document.activeElement) || (!chosen.isCollapsed && chosen.containsNode(part, true));
  };
  const refresh = async () => {
    if (paused || document.hidden) return;
    try {
      const answer = await fetch(location.origin + location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(4000) });
      if (!answer.ok && answer.status !== 400) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = page.title;
      for (const part of parts) {
        const fresh = page.getElementById(part.id);
        if (fresh && fresh.innerHTML !== part.innerHTML && !busy(part)) part.replaceChildren(...fresh.childNodes);
      }
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
  };
  setInterval(refresh, 5000);
})();
