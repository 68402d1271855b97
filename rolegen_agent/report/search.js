
(() => {
  "use strict";
  const tools = document.getElementById("tools");
  if (!tools) return;
  const box = document.getElementById("q");
  const kind = document.getElementById("kind");
  const said = document.getElementById("found");
  const all = Array.from(document.querySelectorAll("#customers > details"), (node) => ({
    node,
    user: node.querySelector("h3").textContent.toLowerCase(),
    kinds: node.className.split(" "),
  }));
  const open = () => {
    const wanted = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (wanted && wanted.tagName === "DETAILS") {
      wanted.hidden = false;
      wanted.open = true;
      wanted.scrollIntoView();
    }
  };
  const filter = () => {
    const text = box.value.trim().toLowerCase();
    let shown = 0;
    let last = null;
    for (const one of all) {
      const match = one.user.includes(text) && (!kind.value || one.kinds.includes(kind.value));
      one.node.hidden = !match;
      if (match) {
        shown += 1;
        last = one.node;
      }
    }
    if (shown === 1) last.open = true;
    said.textContent = shown + " of " + all.length + (shown ? "" : " \u2013 no customer matches; clear the search to see all");
  };
  tools.hidden = false;
  filter();
  box.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  addEventListener("hashchange", open);
  addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== box) {
      event.preventDefault();
      box.focus();
    }
    if (event.key === "Escape" && document.activeElement === box) {
      box.value = "";
      filter();
    }
  });
  open();
})();
