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
		return translated[i-1] //nolint:gosec // one for each language but English
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
	// Of arguments, and of what they name.
	"access could not be decided; try again":                 {"не удалось проверить права доступа; попробуйте ещё раз", "无法确定访问权限，请重试"},
	"the policy could not be read; try again":                {"не удалось прочитать политику доступа; попробуйте ещё раз", "无法读取访问策略，请重试"},
	"there is no such record":                                {"такой записи нет", "该记录不存在"},
	"there is no such type":                                  {"такого типа нет", "该类型不存在"},
	"there is no such operation":                             {"такой операции нет", "该操作不存在"},
	"there is no such field":                                 {"такого поля нет", "该字段不存在"},
	"there is no such rule":                                  {"такого правила нет", "该规则不存在"},
	"there is no such rule in force":                         {"такого действующего правила нет", "没有这条生效的规则"},
	"there is no such kind":                                  {"такого вида нет", "该种类不存在"},
	"there is no such hold":                                  {"такого удержания нет", "该法律保留不存在"},
	"there is no such export":                                {"такого экспорта нет", "该导出不存在"},
	"there is no such schedule":                              {"такого расписания нет", "该计划不存在"},
	"there is no such format":                                {"такого формата нет", "该格式不存在"},
	"there is no such state":                                 {"такого состояния нет", "该状态不存在"},
	"there is no such mode":                                  {"такого режима нет", "该模式不存在"},
	"there is no such webhook":                               {"такого вебхука нет", "该 Webhook 不存在"},
	"there is no such department":                            {"такого отдела нет", "该部门不存在"},
	"there is no such alert rule":                            {"такого правила оповещения нет", "该告警规则不存在"},
	"there is no such request":                               {"такого запроса нет", "该请求不存在"},
	"there is no such user or team":                          {"такого пользователя или команды нет", "该用户或团队不存在"},
	"There is no such decision.":                             {"Такого решения нет.", "该决策不存在。"},
	"the policy does not allow this":                         {"политика доступа этого не разрешает", "访问策略不允许此操作"},
	"the policy does not allow this on any of these records": {"политика доступа не разрешает этого ни для одной из этих записей", "访问策略不允许对这些记录中的任何一条执行此操作"},
	"the policy does not allow to export these records":      {"политика доступа не разрешает экспортировать эти записи", "访问策略不允许导出这些记录"},
	"the policy does not let you write this field":           {"политика доступа не разрешает вам изменять это поле", "访问策略不允许您修改该字段"},
	"the policy hides values of this field from you: it cannot be filtered by": {"политика доступа скрывает от вас значения этого поля: по нему нельзя фильтровать", "访问策略对您隐藏了该字段的值，因此不能按其筛选"},
	"the field is hidden from you":                                             {"поле скрыто от вас", "该字段对您不可见"},
	"the record was purged":                                                    {"запись удалена окончательно", "该记录已被彻底清除"},
	"the rule was removed":                                                     {"правило удалено", "该规则已被移除"},
	"the rule is not in force":                                                 {"правило не действует", "该规则未生效"},
	"the hold was released":                                                    {"удержание снято", "该法律保留已解除"},
	"the webhook is disabled":                                                  {"вебхук отключён", "该 Webhook 已停用"},
	"the key was used for another request":                                     {"ключ уже использован для другого запроса", "该键已用于其他请求"},
	"the filter compares nothing and would select everything":                  {"в фильтре нет условий: он выбрал бы всё", "筛选器没有任何条件，会选中全部记录"},
	"what a filter selects needs expectedCount or previewToken":                {"для выбора по фильтру нужен expectedCount или previewToken", "按筛选器选择时需要 expectedCount 或 previewToken"},
	"is required where no records are named":                                   {"обязательно, если записи не названы", "未指明记录时为必填项"},
	"voiding needs a reason":                                                   {"для аннулирования нужна причина", "作废需要填写原因"},
	"versions count from 1":                                                    {"версии считаются с 1", "版本号从 1 开始"},
	"this operation cannot be undone":                                          {"эту операцию нельзя отменить", "该操作无法撤销"},
	"nobody decides on what he asked for himself":                              {"нельзя согласовать собственный запрос", "不能审批自己提出的请求"},
	"you are none of those who decide on this":                                 {"решение по этому запросу принимаете не вы", "您不是此事的审批人"},
	"only who asked for it calls it off":                                       {"отозвать запрос может только тот, кто его подал", "只有提出者本人可以撤回"},
	"is given twice":                                                           {"указано дважды", "重复给出"},
	"is not in the years 1 to 9999":                                            {"год должен быть от 1 до 9999", "年份须在 1 到 9999 之间"},
	"is not in the future":                                                     {"должно быть в будущем", "须为将来的时间"},
	"is not before to":                                                         {"должно быть раньше, чем to", "须早于 to"},
	"is not the id of a record":                                                {"не является идентификатором записи", "不是记录的标识符"},
	"is no id of a record":                                                     {"не является идентификатором записи", "不是记录的标识符"},
	"is a cursor of another list or order":                                     {"курсор от другого списка или порядка", "游标属于其他列表或排序"},
	"selects records of another type":                                          {"выбирает записи другого типа", "选择了其他类型的记录"},
	"is no role":                                                               {"не является ролью", "不是角色"},
	"is no token of a preview of this request":                                 {"не является токеном предпросмотра этого запроса", "不是此请求的预览令牌"},
	"has expired; preview again":                                               {"срок истёк; выполните предпросмотр заново", "已过期，请重新预览"},
	"refers to something that is not there":                                    {"ссылается на то, чего нет", "引用的对象不存在"},
	"states narrow a filter only":                                              {"состояния уточняют только фильтр", "states 只能用于缩小筛选范围"},
}
