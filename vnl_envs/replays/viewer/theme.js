// The choice on the documentation's pages holds here; without one the system's does.
{
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // A browser that keeps nothing.
  }
  if (theme === "light" || theme === "dark") document.documentElement.style.colorScheme = theme;
}
