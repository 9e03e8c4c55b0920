// The viewer of /api/v1/docs. It asks this portal alone, and keeps no token beyond the page.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

window.SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  domNode: document.getElementById("api"),
  // With deep links a link stands in each button that opens a call, and no keyboard gets to it.
  deepLinking: false,
  validatorUrl: null,
  persistAuthorization: false,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // The viewer has a first heading of its own, and above its main part what is in none.
  onComplete() {
    document.querySelector("#api h1")?.setAttribute("aria-level", "2");
    const about = document.querySelector("#api .information-container");
    about?.setAttribute("role", "region");
    about?.setAttribute("aria-label", "About the API");
  },
});
