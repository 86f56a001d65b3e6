package server

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/lethe-crm/lethe/internal/actor"
	"github.com/lethe-crm/lethe/internal/identity"
)

const (
	cookieName = "lethe_session"
	// maxForm is many times what the form of the page sends, in bytes.
	maxForm = 4 << 10
	// afterSignIn is where people go.
	afterSignIn = "/graphiql/"
)

//go:embed signin.html
var signInSource string

// style is a part of the page of its own, so that the policy of what the page
// may load can name its hash.
//
//go:embed signin.css
var style string

var (
	signInPage   = template.Must(template.New("signin").Parse(signInSource))
	signInPolicy = "default-src 'none'; style-src 'sha256-" + digest(style) + "'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// words are what the page says in one language.
type words struct {
	Language, Title, Ready, Button, Missing, Invalid, Often string
}

var translations = []words{
	{
		"en", "Sign in to Lethe", "This link signs you in once.", "Sign in",
		"To sign in, open the link you were given.", "This link has been used or has expired. Ask for a new one.",
		"Too many attempts. Wait a minute, then open your link again.",
	},
	{
		"ru", "Вход в Lethe", "По этой ссылке можно войти один раз.", "Войти",
		"Чтобы войти, откройте полученную ссылку.", "Эта ссылка уже использована или устарела. Попросите новую.",
		"Слишком много попыток. Подождите минуту и откройте ссылку ещё раз.",
	},
	{
		"zh", "登录 Lethe", "此链接仅可用于登录一次。", "登录",
		"请打开您收到的链接进行登录。", "此链接已被使用或已过期，请索取新的链接。",
		"尝试次数过多，请稍等一分钟后重新打开链接。",
	},
}

var languages = language.NewMatcher([]language.Tag{language.English, language.Russian, language.Chinese})

func wordsFor(r *http.Request) words {
	_, i := language.MatchStrings(languages, r.Header.Get("Accept-Language"))
	return translations[i]
}

// showSignIn shows a button and changes nothing: programs that look at links in
// mail and chat would otherwise use the link up.
func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request) {
	text := wordsFor(r)
	token := r.URL.Query().Get("token")
	message := text.Ready
	if token == "" {
		message = text.Missing
	}
	s.page(w, r, http.StatusOK, text, message, token)
}

func (s *Server) page(w http.ResponseWriter, r *http.Request, status int, text words, message, token string) {
	var body bytes.Buffer
	if err := signInPage.Execute(&body, map[string]any{
		"Text": text, "Message": message, "Token": token, "Style": template.CSS(style), //nolint:gosec // it is ours
	}); err != nil {
		s.Log.ErrorContext(r.Context(), "rendering a page failed", "error", err)
		answer(w, http.StatusInternalServerError, "Something went wrong on our side.")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", text.Language)
	w.Header().Add("Vary", "Accept-Language")
	w.Header().Set("Content-Security-Policy", signInPolicy)
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client may have gone
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		answer(w, http.StatusBadRequest, "That is not the form of this page.")
		return
	}
	from := s.client(r)
	if wait := s.failures.look(from, s.Now()); wait > 0 {
		retryAfter(w, wait)
		text := wordsFor(r)
		s.page(w, r, http.StatusTooManyRequests, text, text.Often, "")
		return
	}
	c, err := s.Identity.RedeemLink(r.Context(), r.PostForm.Get("token"), RequestID(r.Context()))
	switch {
	case errors.Is(err, identity.ErrUnauthenticated):
		s.failures.take(from, s.Now())
		text := wordsFor(r)
		s.page(w, r, http.StatusUnauthorized, text, text.Invalid, "")
		return
	case err != nil:
		s.Log.ErrorContext(r.Context(), "signing in failed", "error", err)
		answer(w, http.StatusServiceUnavailable, "Something went wrong on our side; try again.")
		return
	}
	http.SetCookie(w, s.cookie(r, c.Secret, int(identity.SessionTTL/time.Second)))
	http.Redirect(w, r, afterSignIn, http.StatusSeeOther)
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	// A token is not signed out by whoever shows it, but revoked.
	if a := actor.From(r.Context()); a != nil && a.Kind == actor.User {
		if err := s.Identity.RevokeSession(r.Context(), a.Tenant, a.Credential); err != nil {
			s.Log.ErrorContext(r.Context(), "signing out failed", "error", err)
			answer(w, http.StatusServiceUnavailable, "Something went wrong on our side; try again.")
			return
		}
	}
	http.SetCookie(w, s.cookie(r, "", -1))
	http.Redirect(w, r, "/signin", http.StatusSeeOther)
}

// cookie is Lax, so that a link from elsewhere finds the user signed in while a
// form or script from elsewhere does not.
func (s *Server) cookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure follows from how the request came: a server without TLS must work, too
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		// A proxy's header is believed: who forges it only spoils his own cookie.
		Secure: r.TLS != nil || strings.HasPrefix(s.PublicURL, "https:") || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
}
