/** The pages, one line each. A new page adds its line here and nothing else changes in the shell. */
export const PAGES = [
  { page: "home", href: "/", label: "Home", icon: "home", key: "h" },
  { page: "characters", href: "/characters.html", label: "Characters", icon: "characters", key: "c" },
  { page: "studio", href: "/studio.html", label: "Studio", icon: "studio", key: "s" },
  { page: "gallery", href: "/gallery.html", label: "Gallery", icon: "gallery", key: "g" },
  { page: "monitoring", href: "/monitoring.html", label: "Monitoring", icon: "monitoring", key: "m" },
];
