// The choice on the documentation's pages holds here; without one the system's does.
const theme = (() => {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // a browser that keeps nothing
  }
})();
if (theme === "light" || theme === "dark") document.documentElement.style.colorScheme = theme;
