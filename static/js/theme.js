// Classic script, loaded before the stylesheet: sets the theme before the first paint.
(function () {
  try {
    var prefs = JSON.parse(localStorage.getItem("dalla.prefs") || "{}");
    if (prefs.theme === "light" || prefs.theme === "dark") document.documentElement.dataset.theme = prefs.theme;
  } catch (_) {
    /* no storage: the system decides */
  }
})();
