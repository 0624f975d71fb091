/** The pages, one line each. A new page adds its line here and nothing else changes in the shell. `bar`: in the phone's bar; the others are under More. */
export const PAGES = [
  { page: "home", bar: true, href: "/", label: "Home", icon: "home", key: "h" },
  { page: "characters", href: "/characters.html", label: "Characters", icon: "characters", key: "c" },
  { page: "studio", bar: true, href: "/studio.html", label: "Studio", icon: "studio", key: "s" },
  { page: "gallery", href: "/gallery.html", label: "Gallery", icon: "gallery", key: "g" },
  { page: "prompts", href: "/prompts.html", label: "Prompts", icon: "book", key: "p" },
  { page: "content", bar: true, href: "/content.html", label: "Content", icon: "send", key: "o" },
  { page: "calendar", bar: true, href: "/calendar.html", label: "Calendar", icon: "calendar", key: "k" },
  { page: "schedule", href: "/schedule.html", label: "Schedule", icon: "clock", key: "e" },
  { page: "datasets", href: "/datasets.html", label: "Datasets", icon: "dataset", key: "d" },
  { page: "lora", href: "/lora.html", label: "LoRA", icon: "layers", key: "l" },
  { page: "models", href: "/models.html", label: "Models", icon: "cube", key: "x" },
  { page: "connections", href: "/connections.html", label: "Connections", icon: "link", key: "n" },
  { page: "monitoring", href: "/monitoring.html", label: "Monitoring", icon: "monitoring", key: "m" },
  { page: "settings", href: "/settings.html", label: "Settings", icon: "settings", key: "," },
];
