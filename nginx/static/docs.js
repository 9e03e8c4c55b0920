// The API page at /api/v1/docs. It loads everything from this portal and forgets the token when the page is closed.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

window.SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  domNode: document.getElementById("api"),
  // Deep links would put a link inside each button that opens a call, where the keyboard cannot reach it.
  deepLinking: false,
  validatorUrl: null,
  persistAuthorization: false,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Swagger UI adds a second first-level heading, and content outside of any landmark.
  onComplete() {
    document.querySelector("#api h1")?.setAttribute("aria-level", "2");
    const about = document.querySelector("#api .information-container");
    about?.setAttribute("role", "region");
    about?.setAttribute("aria-label", "About the API");
  },
});
