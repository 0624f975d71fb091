/** Defines every custom element. Importing this file is enough. */
import "./popover.js";
import "./app-shell.js";
import "./notification-centre.js";
import "./toast-stack.js";
import "./tab-bar.js";
import "./job-progress.js";
import "./media-grid.js";
import "./image-viewer.js";
import "./drop-zone.js";
import "./data-table.js";
