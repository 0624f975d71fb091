/**
 * What stands where on the settings page. Pure data.
 * A panel: {id, title, text?, test? (services that can be tried there), names (settings), more?: open only on demand}.
 * A setting that no panel names appears in the section of its group by itself, so that a new one is never lost.
 */

/** @type {{id: string, label: string, icon: string, text: string, panels?: any[]}[]} */
export const SECTIONS = [
  {
    id: "general",
    label: "General",
    icon: "settings",
    text: "Time zone, address, log, this browser",
    panels: [
      { id: "time", title: "Time", test: ["timezone"], names: ["timezone"] },
      {
        id: "network",
        title: "Where the app listens",
        text: "Only this computer reaches 127.0.0.1. To open the app to your network, create an account first.",
        names: ["host", "port", "logLevel"],
      },
      {
        id: "scale",
        title: "Several machines",
        text: "Not in use yet: this version runs everything in one process with SQLite. The addresses can be tested.",
        test: ["database", "redis"],
        names: ["databaseUrl", "redisUrl"],
        more: true,
      },
    ],
  },
  {
    id: "engines",
    label: "Engines",
    icon: "studio",
    text: "ComfyUI and the built-in engine",
    panels: [
      { id: "engine", title: "Drawing", names: ["imageEngine"] },
      {
        id: "comfyui",
        title: "ComfyUI",
        test: ["comfyui"],
        names: ["comfyuiUrl", "comfyuiTimeout", "comfyuiLoraDir", "comfyuiHeaders"],
      },
      { id: "builtin", title: "Built-in engine", test: ["builtin"], names: ["device", "precision", "engineIdleMinutes"] },
    ],
  },
  {
    id: "captions",
    label: "Captions",
    icon: "edit",
    text: "Gemini, a local server, the composer",
    panels: [
      {
        id: "writer",
        title: "Writing",
        test: ["composer"],
        names: ["captionEngine", "captionFailure", "captionLanguage", "captionSendImage"],
      },
      { id: "gemini", title: "Gemini", test: ["gemini"], names: ["geminiApiKey", "geminiModel", "geminiApiVersion", "geminiBaseUrl"] },
      {
        id: "local",
        title: "Local server",
        text: "Any server that speaks like OpenAI: Ollama, LM Studio, llama.cpp, vLLM.",
        test: ["local"],
        names: ["captionUrl", "captionModel", "captionApiKey"],
      },
    ],
  },
  {
    id: "publishing",
    label: "Publishing",
    icon: "send",
    text: "Rules for posts, Instagram, X, where pictures are fetched",
    panels: [
      {
        id: "rules",
        title: "Rules",
        names: ["dryRun", "approval", "minGapMinutes", "lateWindowMinutes", "duplicateDays", "xRepeatUnconfirmed"],
      },
      {
        id: "hosting",
        title: "Where Instagram fetches pictures",
        text: "Instagram takes no uploads: it fetches each picture from a public https address. Either this app has one, or a bucket does.",
        test: ["hosting"],
        names: ["publicBaseUrl", "publicUrlMinutes"],
      },
      {
        id: "bucket",
        title: "Bucket",
        text: "R2, S3, MinIO and others. When an address and a name are set, the bucket is used instead of this app's own address.",
        test: ["bucket"],
        names: ["s3Endpoint", "s3Bucket", "s3Region", "s3AccessKey", "s3SecretKey", "s3PublicUrl"],
      },
      {
        id: "instagram",
        title: "Instagram",
        text: "The keys of each account belong to its character.",
        test: ["instagram"],
        names: ["instagramGraphUrl", "instagramGraphVersion", "instagramAppId", "instagramAppSecret"],
      },
      { id: "x", title: "X", test: ["x"], names: ["xApiUrl"] },
    ],
  },
  {
    id: "scheduler",
    label: "Scheduler",
    icon: "clock",
    text: "Quiet hours, missed runs",
    panels: [{ id: "times", title: "Times", names: ["quietHours", "missedRunMinutes"] }],
  },
  {
    id: "webhooks",
    label: "Webhooks",
    icon: "link",
    text: "Where they may go",
    panels: [{ id: "targets", title: "Targets", names: ["webhookPrivate"] }],
  },
  {
    id: "models",
    label: "Models and weights",
    icon: "layers",
    text: "Folders, families, pickled weights",
    panels: [
      {
        id: "folders",
        title: "Folders",
        text: "A new folder here moves nothing: to take the files along, use Move under Storage.",
        test: ["paths"],
        names: ["modelsDir", "lorasDir"],
      },
      { id: "files", title: "Files", names: ["modelFamilies", "pickleWeights"] },
    ],
  },
  {
    id: "storage",
    label: "Storage",
    icon: "disk",
    text: "What takes room, cleaning, moving",
    panels: [{ id: "places", title: "Folders and trash", test: ["paths"], names: ["dataDir", "trainingDataDir", "trashDays"] }],
  },
  { id: "backup", label: "Backup", icon: "save", text: "Make, download and restore backups" },
  { id: "account", label: "My account", icon: "user", text: "Profile, password, devices, API tokens" },
  {
    id: "security",
    label: "Accounts and security",
    icon: "lock",
    text: "People, sign-in, host names, limits",
    panels: [
      { id: "door", title: "Sign-in and access", names: ["auth", "sessionDays", "rateLimit", "allowedHosts", "trustedProxies"] },
      { id: "keys", title: "Stored credentials", names: ["secretKey"] },
    ],
  },
  { id: "about", label: "About", icon: "info", text: "Version, licences, shortcuts, reset" },
];

/** The section a group of settings falls into when no panel names the setting. */
export const GROUPS = {
  general: "general",
  scale: "general",
  engines: "engines",
  captions: "captions",
  publishing: "publishing",
  scheduler: "scheduler",
  webhooks: "webhooks",
  storage: "storage",
  security: "security",
  models: "models",
};

/** What the choices mean: name -> value -> [label, hint]. */
export const CHOICES = {
  imageEngine: {
    auto: ["Automatic", "ComfyUI when it answers, otherwise the built-in engine."],
    comfyui: ["ComfyUI", "Only ComfyUI. Without it nothing is drawn."],
    builtin: ["Built-in", "Only the built-in engine on this computer."],
  },
  device: {
    auto: ["Automatic", "The graphics card when there is one, otherwise the processor."],
    cpu: ["Processor", "Slow, and always there."],
    cuda: ["NVIDIA (CUDA)", "An NVIDIA graphics card."],
    mps: ["Apple (MPS)", "The graphics of an Apple computer."],
  },
  precision: {
    auto: ["Automatic", "bf16 on CUDA, fp32 on the processor."],
    fp32: ["fp32", "Exact, twice the memory of the others."],
    fp16: ["fp16", "Half the memory. Some models turn black."],
    bf16: ["bf16", "Half the memory, on newer cards."],
  },
  captionEngine: {
    auto: ["Automatic", "Gemini when a key is set, else the local server when one is set, else composed offline."],
    gemini: ["Gemini", "Google writes. Texts and, if allowed, a small copy of the picture leave this computer."],
    local: ["Local server", "Your own server writes."],
    composer: ["Composer", "Composed on this computer from the character and the prompt. Always works."],
  },
  captionFailure: {
    fallback: ["Compose it offline", "The post goes out in time with a composed caption."],
    hold: ["Hold the post", "The post waits until a person writes a caption."],
  },
  geminiApiVersion: { v1: ["v1", "The stable one."], v1beta: ["v1beta", "Some new models answer only here."] },
  approval: {
    automatic: ["Automatic", "Scheduled posts go out by themselves."],
    required: ["By a person", "Scheduled posts wait until somebody approves them."],
  },
  logLevel: {
    DEBUG: ["Everything", "For finding a fault. Grows fast."],
    INFO: ["Normal", "What happens, a line each."],
    WARNING: ["Warnings", "Only what may need you."],
    ERROR: ["Errors", "Only what failed."],
  },
  auth: {
    auto: ["Automatic", "No sign-in on this computer until the first account exists."],
    on: ["Always", "Sign-in is needed from the start."],
    off: ["Never", "Everybody who reaches the app may do everything. Only for a private network."],
  },
};

/** Shorter words than the server's where the page says the rest by itself. */
export const HELP = {
  timezone: "For schedules and quiet hours, where a character has none of its own. Empty: this computer's.",
  host: "127.0.0.1: only this computer. 0.0.0.0: everybody in your network.",
  port: "0: any free port.",
  imageEngine: "For new pictures, unless a request says otherwise.",
  precision: "How exactly the built-in engine computes.",
  captionEngine: "For new captions, unless a request says otherwise.",
  captionFailure: "On scheduled posts.",
  captionLanguage: "Empty: the language of the character's texts.",
  geminiApiKey: "From Google AI Studio. Without it captions are composed offline.",
  geminiModel: "Its name at Google.",
  geminiApiVersion: "Of the Gemini API.",
  geminiBaseUrl: "Only for a proxy in between. Empty: Google's own.",
  captionUrl: "Including /v1.",
  captionModel: "Empty: the first it offers.",
  captionApiKey: "Only where the server wants one.",
  approval: "Of posts that scheduled tasks make. A task may say otherwise.",
  auth: "Whether people sign in.",
};

/** What an empty field shows. */
export const PLACEHOLDERS = {
  captionUrl: "http://127.0.0.1:11434/v1",
  captionLanguage: "English, Deutsch …",
  captionModel: "The first",
  geminiBaseUrl: "Google's own",
  publicBaseUrl: "https://dalla.example.com",
  s3Endpoint: "https://….r2.cloudflarestorage.com",
  s3PublicUrl: "https://pictures.example.com",
  quietHours: "23:00-07:00",
  allowedHosts: "dalla.home.example, studio.local",
  comfyuiLoraDir: "/opt/ComfyUI/models/loras",
};

/** How a test is called on its button. */
export const TESTS = {
  comfyui: "Test",
  builtin: "Draw a test picture",
  gemini: "Test",
  local: "Test",
  composer: "Test the composer",
  hosting: "Test like Instagram",
  bucket: "Test",
  instagram: "Test",
  x: "Test",
  database: "Test the database",
  redis: "Test Redis",
  paths: "Test the folders",
  timezone: "What time is it?",
};

/** What else the search finds: [section, anchor, label, words]. */
export const EXTRAS = [
  ["general", "theme", "Theme", "dark light appearance colours"],
  ["general", "shortcuts", "Keyboard shortcuts", "keys"],
  ["storage", "usage", "What takes room", "disk space usage size free forecast"],
  ["storage", "clean", "Clean up", "delete cache temporary files trash free space"],
  ["storage", "move", "Move a folder", "relocate another disk path"],
  ["backup", "make", "Make a backup", "export save archive zip"],
  ["backup", "restore", "Restore a backup", "import archive zip recover"],
  ["account", "", "Password", "change my password profile"],
  ["account", "", "API tokens", "bearer programs access key"],
  ["account", "", "Devices and sessions", "sign out log out"],
  ["security", "", "People and roles", "users accounts admin editor viewer"],
  ["webhooks", "", "Webhooks", "http callback events hooks"],
  ["about", "version", "Version and licences", "about licence open source"],
  ["about", "reset", "Reset all settings", "defaults factory"],
];
