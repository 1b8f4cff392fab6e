// Light or dark, as the reader's system has it or as he has chosen. Runs before the first paint.
(() => {
  const KEY = "angara-theme";
  const root = document.documentElement;
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a browser that keeps nothing
    }
  };
  const dark = () =>
    (chosen() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const apply = () => {
    root.dataset.theme = dark() ? "dark" : "light";
    root.dispatchEvent(new Event("themechange"));
  };
  window.switchTheme = () => {
    try {
      localStorage.setItem(KEY, dark() ? "light" : "dark");
    } catch {
      // as it was
    }
    apply();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
})();
