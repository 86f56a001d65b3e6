package graph

import (
	"context"
	"net/http"

	"github.com/99designs/gqlgen/graphql"
	"golang.org/x/text/language"
)

// languages are those that messages are in, by the order of the columns of
// translations. The first is what the messages are written in.
var languages = []language.Tag{language.English, language.Russian, language.Chinese}

var matcher = language.NewMatcher(languages)

// languageOf is the place among languages of the one that suits who asks best.
func languageOf(header http.Header) int {
	_, i := language.MatchStrings(matcher, header.Get("Accept-Language"))
	return i
}

// inWords is a message in the language of who asks, and in English where it was
// not translated.
func inWords(ctx context.Context, message string) string {
	if !graphql.HasOperationContext(ctx) {
		return message
	}
	i := languageOf(graphql.GetOperationContext(ctx).Headers)
	if translated, known := translations[message]; known && i > 0 {
		return translated[i-1]
	}
	return message
}

// speaking says in the headers of an answer which language its messages are for.
func speaking(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Language", languages[languageOf(r.Header)].String())
		w.Header().Add("Vary", "Accept-Language")
		next.ServeHTTP(w, r)
	})
}

// translations are messages in Russian and in Chinese. Codes, and the technical
// texts about a document that does not parse or is not valid, are not translated.
var translations = map[string][2]string{
	// Of codes.
	"There is no such record.": {"Такой записи нет.", "该记录不存在。"},
	"You may not do this to the record, or to one that would come along.":      {"У вас нет прав на это действие с записью или с теми записями, которые она затронет.", "您无权对该记录或随之受影响的记录执行此操作。"},
	"You may not use this field.":                                              {"Это поле вам недоступно.", "您无权使用该字段。"},
	"The record's state does not allow it.":                                    {"Состояние записи этого не допускает.", "记录的当前状态不允许此操作。"},
	"Only voided and deleted records are purged.":                              {"Окончательно удалить можно только аннулированные и удалённые записи.", "只有已作废或已删除的记录才能彻底清除。"},
	"The record is read-only in its state.":                                    {"В этом состоянии запись доступна только для чтения.", "记录在当前状态下为只读。"},
	"The record is not at this version any more.":                              {"Версия записи уже изменилась.", "记录的版本已经改变。"},
	"Another live record has the same value.":                                  {"Такое же значение уже есть у другой действующей записи.", "另一条有效记录已使用相同的值。"},
	"Live records depend on it.":                                               {"От неё зависят действующие записи.", "仍有有效记录依赖于它。"},
	"The record it belongs to is retired.":                                     {"Запись, которой она принадлежит, удалена или аннулирована.", "其所属记录已删除或作废。"},
	"A legal hold keeps it as it is.":                                          {"Запись сохраняется без изменений по юридическому требованию.", "该记录受法律保留约束，须保持原样。"},
	"It has to be kept for now.":                                               {"Пока её необходимо хранить.", "该记录目前必须保留。"},
	"The filter compares nothing.":                                             {"В фильтре нет ни одного условия.", "筛选器中没有任何条件。"},
	"That is more than is allowed at once.":                                    {"Это больше, чем допускается за один раз.", "超出了单次允许的数量。"},
	"The id was given before.":                                                 {"Этот идентификатор уже указан.", "该标识符重复。"},
	"The idempotency key was used for another request.":                        {"Ключ идемпотентности уже использован для другого запроса.", "该幂等键已用于其他请求。"},
	"The record was purged.":                                                   {"Запись удалена окончательно.", "该记录已被彻底清除。"},
	"The tenant would be left without an active user who can edit its policy.": {"Не останется ни одного активного пользователя, который может менять политику доступа.", "这样将没有任何在用用户可以编辑访问策略。"},
	"Others have to agree first.":                                              {"Сначала это должны согласовать другие.", "须先经他人批准。"},
	"It is not as it was when others agreed.":                                  {"После согласования запись изменилась.", "该记录在批准之后已发生变化。"},
	"Nobody decides on what he asked for himself.":                             {"Нельзя согласовать собственный запрос.", "不能审批自己提出的请求。"},
	"It has to be exported first: no complete export has it.":                  {"Сначала её нужно экспортировать: ни один завершённый экспорт её не содержит.", "须先导出：尚无完整的导出包含该记录。"},
	"It has to be exported again: it has changed since.":                       {"Её нужно экспортировать снова: с тех пор она изменилась.", "须重新导出：该记录在上次导出后已更改。"},
	"The input is not valid.":                                                  {"Введены недопустимые данные.", "输入无效。"},
	"Access could not be decided; try again.":                                  {"Не удалось проверить права доступа; попробуйте ещё раз.", "无法确定访问权限，请重试。"},
	"Something went wrong on our side.":                                        {"На нашей стороне произошла ошибка.", "服务器端发生错误。"},
	// Of requests as a whole.
	"Sign in first.":                  {"Сначала войдите в систему.", "请先登录。"},
	"The policy does not allow this.": {"Политика доступа этого не разрешает.", "访问策略不允许此操作。"},
	"The policy hides values of this field from you: it cannot be filtered or ordered by.": {"Политика доступа скрывает от вас значения этого поля: по нему нельзя фильтровать или сортировать.", "访问策略对您隐藏了该字段的值，因此不能按其筛选或排序。"},
	"The operation took too long.": {"Операция заняла слишком много времени.", "操作耗时过长。"},
	"There is no such user.":       {"Такого пользователя нет.", "该用户不存在。"},
	"The user is deactivated.":     {"Пользователь деактивирован.", "该用户已停用。"},
	"must not be empty":            {"не может быть пустым", "不能为空"},
	"must not be null":             {"не может быть null", "不能为 null"},
	"is required":                  {"обязательно", "为必填项"},
	"is not an id":                 {"не является идентификатором", "不是有效的标识符"},
}
