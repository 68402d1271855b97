(() => {
  "use strict";
  const body = document.body;
  const main = document.getElementById("main");
  const find = document.getElementById("find");
  const help = document.getElementById("help");
  const said = document.getElementById("live");
  const keys = document.getElementById("keys");

  // Which page this is, for eyes and for screen readers.
  for (const link of document.querySelectorAll("header nav a")) {
    if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
  }

  // What a link points to is opened, however deep it is folded.
  const open = () => {
    const wanted = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = wanted; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (wanted) wanted.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();

  // Keys.
  const lines = () => Array.from(main.querySelectorAll("a.open"));
  const step = (by) => {
    const all = lines();
    if (!all.length) return;
    const now = all.indexOf(document.activeElement);
    all[Math.min(all.length - 1, Math.max(0, now < 0 ? 0 : now + by))].focus();
  };
  const follow = (key) => {
    const link = main.querySelector(`a[data-key="${key}"]`);
    if (link) link.click();
    else if (key === "b") history.back();
  };
  let going = false;
  const unfold = () => {
    const all = Array.from(main.querySelectorAll("details"));
    const shut = all.some((one) => !one.open);
    for (const one of all) one.open = shut;
  };
  addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches && target.matches("input, select, textarea")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (going) {
      going = false;
      const link = document.querySelector(`header nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) link.click();
      return;
    }
    if (event.key === "/" && find) {
      event.preventDefault();
      find.focus();
    } else if (event.key === "?" && help) help.showModal();
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "n" || event.key === "b") follow(event.key);
    else if (event.key === "e") unfold();
    else if (event.key === "g") {
      going = true;
      setTimeout(() => { going = false; }, 1500);
    }
  });
  if (keys && help) {
    keys.hidden = false;
    keys.addEventListener("click", () => help.showModal());
  }

  // Keeping up with a batch: when something was added, the parts that may change are read again.
  if (!body.dataset.live) return;
  let version = body.dataset.version;
  const refresh = async () => {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of main.querySelectorAll("[data-refresh]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh || part.contains(document.activeElement)) continue;
      part.replaceWith(document.importNode(fresh, true));
    }
    version = page.body.dataset.version;
    said.textContent = "Updated at " + new Date().toLocaleTimeString() + ".";
  };
  const look = async () => {
    try {
      if (!document.hidden) {
        const answer = await fetch(body.dataset.live);
        if (answer.ok) {
          const now = await answer.json();
          if (now.version !== version) await refresh();
          body.dataset.seen = now.version;
        }
      }
    } catch {
      said.textContent = "The server does not answer; this page shows what was known before.";
    }
    setTimeout(look, 2000);
  };
  setTimeout(look, 2000);
})();
